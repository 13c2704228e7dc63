"""Building blocks of the U-Nets: time embedding, modulated residual block, resampling."""

import math

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8


def sinusoidal(t: torch.Tensor, dim: int, longest: float = 10000.0) -> torch.Tensor:
    """[N] -> [N, dim]."""
    freq = torch.exp(torch.arange(dim // 2, device=t.device, dtype=torch.float32) * (-math.log(longest) / (dim // 2)))
    angle = t.float()[:, None] * freq[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Timestep (0..999) [N] -> [N, dim]."""

    def __init__(self, dim: int, frequencies: int = 64):
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t):
        return self.mlp(sinusoidal(t, self.frequencies))


class ResBlock(nn.Module):
    """Two 3x3 convolutions, modulated by the embedding (scale and shift after the second norm)."""

    def __init__(self, inputs: int, outputs: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(h)


class Down(nn.Module):
    """Halves the side: pixel-unshuffle and a 1x1 convolution (no pixel is thrown away)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x):
        return self.conv(F.pixel_unshuffle(x, 2))


class Up(nn.Module):
    """Doubles the side: 1x1 convolution, then nearest neighbour (the convolution is cheaper before)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return F.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")


def convolutions(channels: tuple[int, ...]) -> nn.Sequential:
    """Picture [N, 3, s, s] -> [N, channels[-1], s / 2^n, s / 2^n] for n widths: two 3x3 convolutions each, the first at s / 2."""
    layers, inputs = [nn.PixelUnshuffle(2)], 12
    for i, width in enumerate(channels):
        layers += [nn.Conv2d(inputs, width, 3, stride=1 if i == 0 else 2, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU(),
                   nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers)
