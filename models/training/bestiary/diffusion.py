"""The noise schedule and what is trained on it. `abar` is the cumulative product of 1 - beta (DDPM's alpha-bar)."""

import math

import torch

TRAIN_TIMESTEPS = 1000
MAX_BETA = 0.999
MIN_SNR_GAMMA = 5.0


def squaredcos_cap_v2(steps: int = TRAIN_TIMESTEPS) -> torch.Tensor:
    """abar f32 [steps] of the cosine schedule (Nichol & Dhariwal 2021), betas capped; computed in f64."""

    def share(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - share((i + 1) / steps) / share(i / steps), MAX_BETA) for i in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).float()


def diffuse(x0, noise, abar_t):
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) noise; abar_t [N]."""
    a = abar_t.view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def velocity(x0, noise, abar_t):
    """v = sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022)."""
    a = abar_t.view(-1, 1, 1, 1)
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def min_snr_weight_v(abar_t):
    """min(SNR, 5) / (SNR + 1): Min-SNR-5 (Hang et al. 2023) for a v-prediction loss."""
    snr = abar_t / (1 - abar_t)
    return snr.clamp_max(MIN_SNR_GAMMA) / (snr + 1)
