"""The frozen text encoder: a small transformer whose tokens carry the scene and the letters of the name."""

import torch
from torch import nn
from torch.nn import functional as F

from .attention import HIDDEN, heads_first
from .vocabulary import MAX_TOKENS


class Layer(nn.Module):
    """Pre-norm self-attention and MLP over [N, T, dim]."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.head_dim = dim // heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x, bias):
        q, k, v = (heads_first(t, self.head_dim) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class TextTransformer(nn.Module):
    """token_ids, attention_mask i64 [N, 32] -> tokens f32 [N, 32, dim]."""

    def __init__(self, vocabulary: int, dim: int = 128, layers: int = 3, heads: int = 4):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.randn(MAX_TOKENS, dim) * 0.02)
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=0.3)

    def forward(self, token_ids, attention_mask):
        bias = ((1 - attention_mask.float()) * HIDDEN)[:, None, None, :]
        x = self.embed(token_ids) + self.position
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)


def masked_mean(tokens, mask):
    """tokens [N, T, C], mask [N, T] -> [N, C]; all hidden gives zeros."""
    mask = mask.to(tokens.dtype)[..., None]
    return (tokens * mask).sum(-2) / mask.sum(-2).clamp_min(1)
