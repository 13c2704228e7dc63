"""The judge of CreatureDrawBench: names every factor of a 64 px picture, and gives features for the kernel distance.

It is trained on true drawings alone and never sees a picture that a model drew.
"""

import torch
from torch import nn

from .blocks import convolutions
from .world import FACTOR_SIZES, GENOME, SCENE

IMAGE_SIZE = 64
FEATURES = 128
# Factor -> its values: what a creature is, then what the prompt says of the scene.
FACTORS = {**GENOME, **SCENE}
SIZES_OF_FACTORS = tuple(len(values) for values in FACTORS.values())
assert SIZES_OF_FACTORS[: len(FACTOR_SIZES)] == FACTOR_SIZES


def factors_table() -> list[dict]:
    """The factors in the order of the logits, as model.toml and the benchmark name them."""
    return [{"name": name, "kind": "scene" if name in SCENE else "genome", "values": list(values)} for name, values in FACTORS.items()]


class Judge(nn.Module):
    """image f32 [N, 3, 64, 64] in [-1, 1] -> logits f32 [N, sum of the factors' sizes], features f32 [N, 128]."""

    def __init__(self, channels=(32, 64, 128, 160)):
        super().__init__()
        self.trunk = convolutions(channels)
        # Flattened, not pooled: the position is a factor.
        side = IMAGE_SIZE // 2 >> (len(channels) - 1)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(channels[-1] * side * side, FEATURES), nn.SiLU())
        self.heads = nn.Linear(FEATURES, sum(SIZES_OF_FACTORS))

    def forward(self, image):
        features = self.features(self.trunk(image))
        return self.heads(features), features


def half_kept(pictures: torch.Tensor, left: bool) -> torch.Tensor:
    """One half of pictures [N, 3, 64, 64]; the other half repeats the column next to it. For judging one of two creatures."""
    half = IMAGE_SIZE // 2
    if left:
        return torch.cat([pictures[..., :half], pictures[..., half - 1 : half].expand(-1, -1, -1, half)], dim=-1)
    return torch.cat([pictures[..., half : half + 1].expand(-1, -1, -1, half), pictures[..., half:]], dim=-1)


def named(logits: torch.Tensor) -> torch.Tensor:
    """The value of each factor that the judge names: i64 [N, factors]."""
    return torch.stack([part.argmax(1) for part in logits.split(SIZES_OF_FACTORS, dim=1)], dim=1)
