"""What a request that says nothing gets.

Super-resolution: by `reverie bench super-resolution`. More steps draw grain that is not in the truth: from 64 to 256 px, 16 steps at
noise level 0.1 give 22.7 dB, 4 at 0.03 24.4, 2 at 0.03 24.7, 1 at 0.03 25.1, bicubic 24.8; edges stay 1.9 times as sharp as
bicubic's (4 true drawings).
"""

_SAMPLER = {"sampler": "ddim", "timestep_spacing": "trailing", "thresholding": "dynamic", "threshold_quantile": 0.995}

BASE_DEFAULTS = {**_SAMPLER, "steps": 24, "text_weight": 2.0, "neighbour_weight": 3.0, "interleave_ratio": 0.4}

SUPER_RESOLUTION_DEFAULTS = {
    "super-resolution-256": {**_SAMPLER, "thresholding": "static", "steps": 1, "guidance_weight": 1.0, "noise_level": 0.03},
    "super-resolution-1024": {**_SAMPLER, "thresholding": "static", "steps": 1, "guidance_weight": 1.0, "noise_level": 0.03},
}
