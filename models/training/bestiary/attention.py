"""Attention to a masked context with one learned null token that is always attended to."""

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN = -1e9  # added to the scores of masked tokens


def heads_first(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[..., T, C] -> [..., C / head_dim, T, head_dim]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(-2, -3)


class ContextProjection(nn.Module):
    """Keys and values of a context: [..., T, context] -> [..., 2, heads, T, head_dim]."""

    def __init__(self, context: int, channels: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.norm = nn.LayerNorm(context)
        self.project = nn.Linear(context, 2 * channels)

    def forward(self, context):
        keys, values = self.project(self.norm(context)).chunk(2, dim=-1)
        return torch.stack([heads_first(keys, self.head_dim), heads_first(values, self.head_dim)], dim=-4)


class CrossAttention(nn.Module):
    """Pixels [N, C, H, W] attend to projected keys and values; the result is added to them."""

    def __init__(self, channels: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.norm = nn.GroupNorm(8, channels)
        self.query = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.out.weight, std=0.02)
        self.null_kv = nn.Parameter(torch.randn(2, channels // head_dim, 1, head_dim) * 0.5)

    def forward(self, x, kv, mask):
        """kv [N, 2, heads, T, head_dim], mask f32 [N, T] (1 = attend)."""
        n, c, h, w = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        q = heads_first(self.query(pixels), self.head_dim)
        null = self.null_kv.to(kv.dtype).expand(n, -1, -1, -1, -1)
        kv = torch.cat([null, kv], dim=3)
        bias = F.pad((1 - mask) * HIDDEN, (1, 0))[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, kv[:, 0], kv[:, 1], attn_mask=bias.to(q.dtype))
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        return x + mixed.transpose(1, 2).unflatten(2, (h, w))
