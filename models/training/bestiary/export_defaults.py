"""What a request that says nothing gets: chosen by eye and so that the whole cascade takes under three seconds on two cores."""

_SAMPLER = {"sampler": "ddim", "timestep_spacing": "trailing", "thresholding": "dynamic", "threshold_quantile": 0.995}

BASE_DEFAULTS = {**_SAMPLER, "steps": 24, "text_weight": 2.0, "neighbour_weight": 3.0, "interleave_ratio": 0.4}

SUPER_RESOLUTION_DEFAULTS = {
    "super-resolution-256": {**_SAMPLER, "thresholding": "static", "steps": 16, "guidance_weight": 1.0, "noise_level": 0.1},
    "super-resolution-1024": {**_SAMPLER, "thresholding": "static", "steps": 8, "guidance_weight": 1.0, "noise_level": 0.05},
}
