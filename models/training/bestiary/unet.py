"""The base model: a 64 px U-Net conditioned on text and on neighbours (Re-Imagen's DStack and UStack).

DStack runs on the noisy picture at its timestep and, with the same weights, on every neighbour at t = 0. A neighbour's
features are kept as projected keys and values for each attention of the UStack, plus one pooled vector that joins
the embedding modulating every block. None of them depends on the trajectory: once a request is enough.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .attention import ContextProjection, CrossAttention
from .blocks import GROUPS, Down, ResBlock, TimeEmbedding, Up
from .text_encoder import masked_mean

NEIGHBOUR_FEATURES = ("neighbour_kv_16", "neighbour_kv_8a", "neighbour_kv_8b", "neighbour_pooled")


@dataclass(frozen=True)
class UNetSettings:
    unshuffle: int = 2
    channels: tuple[int, int, int] = (48, 96, 160)
    embedding: int = 256
    text_dim: int = 128
    head_dim: int = 32
    image_size: int = 64


class TextVector(nn.Module):
    """Text tokens pooled into the embedding; a learned vector where the text is hidden."""

    def __init__(self, text_dim: int, embedding: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.null = nn.Parameter(torch.zeros(embedding))

    def forward(self, tokens, mask):
        seen = mask.amax(1, keepdim=True)
        return seen * self.mlp(masked_mean(tokens, mask)) + (1 - seen) * self.null


class TextAttention(nn.Module):
    """Pixels attend to the text tokens."""

    def __init__(self, channels: int, s: UNetSettings):
        super().__init__()
        self.context = ContextProjection(s.text_dim, channels, s.head_dim)
        self.attention = CrossAttention(channels, s.head_dim)

    def forward(self, x, tokens, mask):
        return self.attention(x, self.context(tokens), mask)


class DStack(nn.Module):
    """The way down: x [N, 3, 64, 64] -> features at 32, 16 and 8."""

    def __init__(self, s: UNetSettings):
        super().__init__()
        c1, c2, c3 = s.channels
        side = s.image_size // s.unshuffle
        self.unshuffle = s.unshuffle
        self.stem = nn.Conv2d(3 * s.unshuffle**2, c1, 3, padding=1)
        self.res1a, self.res1b = ResBlock(c1, c1, s.embedding), ResBlock(c1, c1, s.embedding)
        self.down1 = Down(c1, c2)
        self.place2 = nn.Parameter(torch.zeros(1, c2, side // 2, side // 2))
        self.res2a, self.res2b = ResBlock(c2, c2, s.embedding), ResBlock(c2, c2, s.embedding)
        self.text2 = TextAttention(c2, s)
        self.down2 = Down(c2, c3)
        self.place3 = nn.Parameter(torch.zeros(1, c3, side // 4, side // 4))
        self.res3a, self.res3b = ResBlock(c3, c3, s.embedding), ResBlock(c3, c3, s.embedding)
        self.text3 = TextAttention(c3, s)

    def forward(self, x, emb, tokens, text_mask):
        h = self.stem(F.pixel_unshuffle(x, self.unshuffle))
        h1a = self.res1a(h, emb)
        h1b = self.res1b(h1a, emb)
        h = self.down1(h1b) + self.place2
        h2a = self.res2a(h, emb)
        h2b = self.text2(self.res2b(h2a, emb), tokens, text_mask)
        h = self.down2(h2b) + self.place3
        h3a = self.res3a(h, emb)
        h3b = self.text3(self.res3b(h3a, emb), tokens, text_mask)
        return h1a, h1b, h2a, h2b, h3a, h3b


class UStack(nn.Module):
    """The way up, with attention to the neighbours twice at 8 and once at 16."""

    def __init__(self, s: UNetSettings):
        super().__init__()
        c1, c2, c3 = s.channels
        e = s.embedding
        self.shuffle = s.unshuffle
        self.mid1 = ResBlock(c3, c3, e)
        self.look3a = CrossAttention(c3, s.head_dim)
        self.mid2 = ResBlock(c3, c3, e)
        self.res3a = ResBlock(2 * c3, c3, e)
        self.look3b = CrossAttention(c3, s.head_dim)
        self.res3b = ResBlock(2 * c3, c3, e)
        self.up3 = Up(c3, c2)
        self.res2a = ResBlock(2 * c2, c2, e)
        self.look2 = CrossAttention(c2, s.head_dim)
        self.res2b = ResBlock(2 * c2, c2, e)
        self.up2 = Up(c2, c1)
        self.res1a = ResBlock(2 * c1, c1, e)
        self.res1b = ResBlock(2 * c1, c1, e)
        self.norm = nn.GroupNorm(GROUPS, c1)
        self.out = nn.Conv2d(c1, 3 * s.unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, skips, emb, kv16, kv8a, kv8b, mask16, mask8):
        h1a, h1b, h2a, h2b, h3a, h3b = skips
        h = self.look3a(self.mid1(h3b, emb), kv8a, mask8)
        h = self.mid2(h, emb)
        h = self.look3b(self.res3a(torch.cat([h, h3b], 1), emb), kv8b, mask8)
        h = self.res3b(torch.cat([h, h3a], 1), emb)
        h = self.up3(h)
        h = self.look2(self.res2a(torch.cat([h, h2b], 1), emb), kv16, mask16)
        h = self.res2b(torch.cat([h, h2a], 1), emb)
        h = self.up2(h)
        h = self.res1a(torch.cat([h, h1b], 1), emb)
        h = self.res1b(torch.cat([h, h1a], 1), emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.shuffle)


class UNet(nn.Module):
    def __init__(self, s: UNetSettings = UNetSettings()):
        super().__init__()
        self.settings = s
        _, c2, c3 = s.channels
        self.time = TimeEmbedding(s.embedding)
        self.text_vector = TextVector(s.text_dim, s.embedding)
        self.down = DStack(s)
        self.up = UStack(s)
        # The neighbours' side.
        self.kv16 = ContextProjection(c2, c2, s.head_dim)
        self.kv8a = ContextProjection(c3, c3, s.head_dim)
        self.kv8b = ContextProjection(c3, c3, s.head_dim)
        self.pool = nn.Sequential(nn.LayerNorm(2 * c3), nn.Linear(2 * c3, s.embedding), nn.SiLU(), nn.Linear(s.embedding, s.embedding))
        self.pooled_to_embedding = nn.Linear(s.embedding, s.embedding)
        self.no_neighbours = nn.Parameter(torch.zeros(s.embedding))

    def encode_neighbours(self, image, tokens, text_mask):
        """image [M, 3, 64, 64] and its caption's tokens -> the features named in `NEIGHBOUR_FEATURES`.

        kv_16 [M, 2, heads, 256, head_dim], kv_8a and kv_8b [M, 2, heads, 64, head_dim], pooled [M, embedding].
        """
        zero = torch.zeros(image.shape[0], device=image.device)
        emb = self.time(zero) + self.text_vector(tokens, text_mask) + self.no_neighbours
        *_, h16, _, h8 = self.down(image, F.silu(emb), tokens, text_mask)
        seen16, seen8 = (h.flatten(2).transpose(1, 2) for h in (h16, h8))
        pooled = self.pool(torch.cat([seen8.mean(1), seen8.amax(1)], dim=1))
        return self.kv16(seen16), self.kv8a(seen8), self.kv8b(seen8), pooled

    def forward(self, x, timestep, tokens, text_mask, kv16, kv8a, kv8b, pooled, neighbour_mask):
        """Features with a neighbour axis K: kv [N, K, 2, heads, T, head_dim], pooled [N, K, embedding]; masks f32."""
        emb = self.time(timestep) + self.text_vector(tokens, text_mask)
        any_neighbour = neighbour_mask.amax(1, keepdim=True)
        looks = self.pooled_to_embedding(masked_mean(pooled, neighbour_mask))
        emb = F.silu(emb + any_neighbour * looks + (1 - any_neighbour) * self.no_neighbours)
        skips = self.down(x, emb, tokens, text_mask)
        return self.up(
            skips, emb, _join(kv16), _join(kv8a), _join(kv8b),
            _per_token(neighbour_mask, kv16), _per_token(neighbour_mask, kv8a),
        )


def _join(kv):
    """[N, K, 2, heads, T, d] -> [N, 2, heads, K T, d]: all neighbours' tokens in one row."""
    return kv.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)


def _per_token(mask, kv):
    """[N, K] -> [N, K T]."""
    return mask[:, :, None].expand(-1, -1, kv.shape[4]).flatten(1)
