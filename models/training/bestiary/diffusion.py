"""The noise schedule and what is trained on it. `abar` is the cumulative product of 1 - beta (DDPM's alpha-bar)."""

import math

import torch

TRAIN_TIMESTEPS = 1000
MAX_BETA = 0.999
MAX_SNR_WEIGHT = 5.0


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


def snr_weight_v(abar_t):
    """clamp(SNR, 1, 5) / (SNR + 1) for a v-prediction loss, which is clamp(SNR, 1, 5) on x0.

    Capped at 5 as Min-SNR-5 (Hang et al. 2023), so that nearly clean pictures do not rule; at least 1 as the truncated SNR
    weighting of Salimans & Ho 2022. Without that floor the noisiest steps count for nothing, and it is there that text
    and neighbours decide what the picture will be.
    """
    snr = abar_t / (1 - abar_t)
    return snr.clamp(1.0, MAX_SNR_WEIGHT) / (snr + 1)
