"""The joint encoders (after CLIP): captions and 64 px pictures to unit vectors of one space."""

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import convolutions
from .text_encoder import TextTransformer, masked_mean

DIM = 128


def unit(x):
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12)


class JointText(nn.Module):
    """token_ids, attention_mask i64 [N, 32] -> f32 [N, 128], unit length."""

    def __init__(self, vocabulary: int, layers: int = 2):
        super().__init__()
        self.transformer = TextTransformer(vocabulary, DIM, layers)
        self.project = nn.Linear(DIM, DIM)

    def forward(self, token_ids, attention_mask):
        tokens = self.transformer(token_ids, attention_mask)
        return unit(self.project(masked_mean(tokens, attention_mask.float())))


class JointImage(nn.Module):
    """image f32 [N, 3, 64, 64] -> f32 [N, 128], unit length."""

    def __init__(self, channels=(32, 64, 128, 192)):
        super().__init__()
        self.features = convolutions(channels)
        self.project = nn.Sequential(nn.Linear(2 * channels[-1], 256), nn.SiLU(), nn.Linear(256, DIM))

    def forward(self, image):
        h = self.features(image).flatten(2)
        return unit(self.project(torch.cat([h.mean(2), h.amax(2)], 1)))


def contrastive_loss(image, text, log_scale):
    """Symmetric cross entropy over the batch; also the share of pictures whose own caption wins."""
    logits = image @ text.T * log_scale.clamp_max(4.6).exp()
    own = torch.arange(len(image), device=image.device)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, (logits.argmax(1) == own).float().mean()
