"""The judge, on true drawings: cross entropy of every factor, with blur and noise as drawn pictures have them."""

import numpy as np
import torch
from torch.nn import functional as F

from ..judge import IMAGE_SIZE, SIZES_OF_FACTORS, Judge, named
from ..render import draw_whole
from ..scenes import scene_view, stack
from ..world import BACKGROUNDS, Entity, held_out_entities, training_entities
from .loop import Loop, LoopSettings

NAME = "judge"
CHECKED = 512  # held-out drawings that a row of the log is checked on


def draw_scenes(entities: tuple[Entity, ...], rng: np.random.Generator, count: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` scenes of different creatures: pictures [N, 3, 64, 64] and the value of every factor, i64 [N, factors]."""
    views, factors = [], []
    for i in rng.choice(len(entities), count, replace=count > len(entities)):
        entity = entities[int(i)]
        size, position, background = int(rng.integers(3)), int(rng.integers(3)), int(rng.integers(len(BACKGROUNDS)))
        views.append(scene_view(entity, rng, size, position, background))
        factors.append((*entity.genome, background, position, size))
    return draw_whole(stack(views), IMAGE_SIZE, device), torch.tensor(factors, device=device)


def spoil(pictures: torch.Tensor) -> torch.Tensor:
    """Half of the pictures blurred, up to the mean of 3 x 3 pixels; noise of up to 0.15 on all; a shift of up to two pixels."""
    n = len(pictures)
    small = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    strength = (torch.rand(n, 1, 1, 1, device=pictures.device) * 2 - 1).clamp_min(0)
    pictures = torch.lerp(pictures, small, strength)
    dx, dy = (int(v) for v in torch.randint(-2, 3, (2,)))
    pictures = F.pad(pictures, (2, 2, 2, 2), mode="replicate")[:, :, 2 + dy : 2 + dy + IMAGE_SIZE, 2 + dx : 2 + dx + IMAGE_SIZE]
    return pictures + torch.randn_like(pictures) * (0.15 * torch.rand(n, 1, 1, 1, device=pictures.device))


def cross_entropy(logits: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Mean over the factors."""
    parts = logits.split(SIZES_OF_FACTORS, dim=1)
    return sum(F.cross_entropy(part, factors[:, i], label_smoothing=0.02) for i, part in enumerate(parts)) / len(parts)


def train(config: dict, settings: LoopSettings, device: str, resume: bool) -> None:
    torch.manual_seed(settings.seed)
    model = Judge().to(device)
    entities, n = training_entities(), config["data"]["pictures"]
    held_out = draw_scenes(held_out_entities(), np.random.default_rng([settings.seed, 0]), CHECKED, device)

    def loss_of_step(step):
        pictures, factors = draw_scenes(entities, np.random.default_rng([settings.seed, 1, step]), n, device)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            logits, _ = model(spoil(pictures))
        loss = cross_entropy(logits.float(), factors)
        numbers = {"loss": loss.detach(), "right": (named(logits) == factors).float().mean()}
        if (step + 1) % settings.log_every == 0:
            with torch.no_grad():
                right = (named(model(held_out[0])[0]) == held_out[1]).float().mean()
            numbers["held_out"] = right * settings.log_every  # the log divides by the steps of a row
        return loss, numbers

    Loop(NAME, model, settings, device, {"kind": NAME, "images_per_step": n}).run(loss_of_step, resume)
