"""What a request that says nothing gets.

Base: by CreatureDrawBench's sweeps, docs/creatures/sweeps.

Super-resolution: by `reverie-bench super-resolution`, 12 true drawings (dB, sharpness of edges; bicubic has 23.62, 0.371 and
30.36, 0.600). One step and no augmentation noise are the best, and the cheapest:

    steps  noise level  64 to 256 px   256 to 1024 px
    1      0            28.56, 0.851   35.59, 0.939
    1      0.03         28.34, 0.844   35.17, 0.940
    1      0.1          27.43, 0.828   33.53, 0.918
    2      0            28.38, 0.856   35.57, 0.937
    4      0            28.15, 0.867   35.51, 0.928
"""

_SAMPLER = {"sampler": "ddim", "timestep_spacing": "trailing", "thresholding": "dynamic", "threshold_quantile": 0.995}

BASE_DEFAULTS = {**_SAMPLER, "sampler": "unipc", "steps": 16, "text_weight": 3.0, "neighbour_weight": 3.0, "interleave_ratio": 0.4}

SUPER_RESOLUTION_DEFAULTS = {
    "super-resolution-256": {**_SAMPLER, "thresholding": "static", "steps": 1, "guidance_weight": 1.0, "noise_level": 0.0},
    "super-resolution-1024": {**_SAMPLER, "thresholding": "static", "steps": 1, "guidance_weight": 1.0, "noise_level": 0.0},
}
