"""Super-resolution U-Nets: a noisy picture and an upsampled small one in, the clean picture out.

Fully convolutional (but for attention to text), so that they train on crops. The prediction is the clean picture,

    x0 = guess + spread F((x - sqrt(abar) guess) / sqrt(abar spread^2 + 1 - abar), low_resolution, t, level),

where `guess` is a linear interpolation of the low-resolution picture, its augmentation noise averaged out, and `spread` is how
far the truth is from that guess (standard deviation; larger where the noise hides more). F works on unit variance and a
fresh F is harmless. There is no direct path from x to the output: a narrow network cannot cancel every pixel's noise, but need
not carry it.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import GROUPS, Down, ResBlock, TimeEmbedding, Up
from .diffusion import TRAIN_TIMESTEPS, squaredcos_cap_v2
from .unet import TextAttention, TextVector, UNetSettings

PICTURE_VARIANCE = 0.3  # of the drawings' values in [-1, 1]
SHARPENED_NOISE = 4.5  # gain in variance of the interpolation's undoing of a blur: (3/4 / (1/2)^(3/2))^2
REACH = 3  # low-resolution pixels that a pixel's interpolation looks at, each way


@dataclass(frozen=True)
class SuperResolutionSettings:
    image_size: int  # side of the finished picture
    low_resolution_size: int
    unshuffle: int
    channels: tuple[int, int, int]
    blocks: tuple[int, int, int] = (1, 1, 2)  # residual blocks a level, each way (the lowest: in all)
    embedding: int = 128
    text: bool = False
    text_dim: int = 128
    head_dim: int = 32
    residual_spread: float = 0.15

    @property
    def factor(self) -> int:
        return self.image_size // self.low_resolution_size


def bicubic_of_average(factor: int) -> torch.Tensor:
    """[factor, taps]: each of `factor` pixels from the low-resolution pixels around its own, in one direction.

    Averaging a bilinear enlargement back (by an even factor) gives each low-resolution pixel blurred by [1 6 1] / 8, whose
    inverse is sqrt(2) r^|n| with r = sqrt(8) - 3. These taps undo the blur, then interpolate as Keys 1981 (a = -1/2).
    """
    n = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    inverse = 2**0.5 * (8**0.5 - 3) ** n.abs()
    phase = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
    d = (phase[:, None] - n).abs()
    keys = torch.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2).where(d < 2, torch.zeros(()).double())
    taps = F.conv1d(keys[:, None], inverse[None, None], padding=REACH)[:, 0]
    return (taps / taps.sum(1, keepdim=True)).float()


class Interpolation(nn.Module):
    """[N, 3, s, s] -> [N, 3, f s, f s], linear and the same for every channel: a learned kernel for each of f x f pixels."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor
        taps = bicubic_of_average(factor)
        kernels = taps[:, None, :, None] * taps[None, :, None, :]
        self.kernels = nn.Parameter(kernels.flatten(0, 1)[:, None].clone())

    def forward(self, small):
        planes = F.pad(small, (REACH,) * 4, mode="replicate").flatten(0, 1)[:, None]
        large = F.pixel_shuffle(F.conv2d(planes, self.kernels), self.factor)
        return large.unflatten(0, (-1, 3))[:, :, 0]


class SuperResolution(nn.Module):
    def __init__(self, s: SuperResolutionSettings):
        super().__init__()
        self.settings = s
        c1, c2, c3 = s.channels
        e = s.embedding
        self.register_buffer("abar", squaredcos_cap_v2(), persistent=False)
        self.interpolation = Interpolation(s.factor)
        self.time = TimeEmbedding(e)
        self.level = TimeEmbedding(e)
        if s.text:
            self.text_vector = TextVector(s.text_dim, e)
            self.text_attention = TextAttention(c3, UNetSettings(text_dim=s.text_dim, head_dim=s.head_dim))
        self.stem = nn.Conv2d(6 * s.unshuffle**2, c1, 1)
        self.down1 = nn.ModuleList(ResBlock(c1, c1, e) for _ in range(s.blocks[0]))
        self.to2 = Down(c1, c2)
        self.down2 = nn.ModuleList(ResBlock(c2, c2, e) for _ in range(s.blocks[1]))
        self.to3 = Down(c2, c3)
        self.mid = nn.ModuleList(ResBlock(c3, c3, e) for _ in range(s.blocks[2]))
        self.from3 = Up(c3, c2)
        self.up2 = nn.ModuleList(ResBlock(2 * c2 if i == 0 else c2, c2, e) for i in range(s.blocks[1]))
        self.from2 = Up(c2, c1)
        self.up1 = nn.ModuleList(ResBlock(2 * c1 if i == 0 else c1, c1, e) for i in range(s.blocks[0]))
        self.norm = nn.GroupNorm(GROUPS, c1)
        self.out = nn.Conv2d(c1, 3 * s.unshuffle**2, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def abar_at(self, index):
        return self.abar[index].view(-1, 1, 1, 1)

    def base_guess(self, low_resolution, noise_level):
        """The interpolation of the low-resolution picture, its noise averaged out at its own resolution; and its spread squared."""
        s, f = self.settings, self.settings.factor
        a = self.abar_at((noise_level * (TRAIN_TIMESTEPS - 1)).round().long())
        a = torch.where(noise_level.view(-1, 1, 1, 1) > 0, a, torch.ones_like(a))
        small = F.avg_pool2d(low_resolution, f) * a.sqrt()
        # Detail the small picture lacks, the shrinkage above, and the noise left after averaging.
        spread = s.residual_spread**2 + PICTURE_VARIANCE * (1 - a) ** 2 + SHARPENED_NOISE * a * (1 - a) / f**2
        return self.interpolation(small), spread

    def residual(self, x, low_resolution, emb, tokens=None, text_mask=None):
        """F: the network proper; x already scaled to unit spread."""
        u = self.settings.unshuffle
        h = self.stem(torch.cat([F.pixel_unshuffle(x, u), F.pixel_unshuffle(low_resolution, u)], 1))
        for block in self.down1:
            h = block(h, emb)
        h1 = h
        h = self.to2(h)
        for block in self.down2:
            h = block(h, emb)
        h2 = h
        h = self.to3(h)
        for i, block in enumerate(self.mid):
            h = block(h, emb)
            if i == 0 and self.settings.text:
                h = self.text_attention(h, tokens, text_mask)
        h = torch.cat([self.from3(h), h2], 1)
        for block in self.up2:
            h = block(h, emb)
        h = torch.cat([self.from2(h), h1], 1)
        for block in self.up1:
            h = block(h, emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), u)

    def scaled(self, x, low_resolution, timestep, noise_level):
        """guess, its spread [N, 1, 1, 1], and x around the guess at unit variance; see the module's text."""
        a = self.abar_at(timestep.round().long())
        guess, spread2 = self.base_guess(low_resolution, noise_level)
        # x - sqrt(abar) guess = sqrt(abar) (x0 - guess) + sqrt(1 - abar) eps.
        return guess, spread2.sqrt(), (x - a.sqrt() * guess) / (a * spread2 + (1 - a)).sqrt()

    def forward(self, x, low_resolution, timestep, noise_level, tokens=None, text_mask=None):
        """x, low_resolution [N, 3, S, S]; timestep, noise_level f32 [N] -> x0 [N, 3, S, S]."""
        guess, spread, scaled = self.scaled(x, low_resolution, timestep, noise_level)
        emb = self.embed(timestep, noise_level, tokens, text_mask)
        return guess + spread * self.residual(scaled, low_resolution, emb, tokens, text_mask)

    def embed(self, timestep, noise_level, tokens, text_mask):
        emb = self.time(timestep) + self.level(noise_level * (TRAIN_TIMESTEPS - 1))
        if self.settings.text:
            emb = emb + self.text_vector(tokens, text_mask)
        return F.silu(emb)

