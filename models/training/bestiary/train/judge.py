"""The judge, on true drawings: cross entropy of every factor, with blur and noise as drawn pictures have them."""

import numpy as np
import torch
from torch.nn import functional as F

from ..captions import EVERY_BACKGROUND
from ..judge import IMAGE_SIZE, SIZES_OF_FACTORS, Judge, half_kept, named
from ..render import draw_pairs, draw_whole
from ..scenes import draw_scene, pair_views, scene_view, stack
from ..world import POSITIONS, SCENE, Entity, held_out_entities, training_entities
from .loop import Loop, LoopSettings

NAME = "judge"
HALVES = 0.15  # share of pictures that are one half of a picture of two creatures
UNKNOWN = -100  # a factor that is not judged
CHECKED = 512  # held-out drawings that a row of the log is checked on


def draw_scenes(entities: tuple[Entity, ...], rng: np.random.Generator, count: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` scenes: pictures [N, 3, 64, 64] and the value of every factor, i64 [N, factors], UNKNOWN where it is not judged."""
    chosen = [entities[int(i)] for i in rng.choice(len(entities), count, replace=count > len(entities))]
    halves = round(HALVES * count) // 2 * 2
    views, factors = [], []
    for entity in chosen[halves:]:
        scene = draw_scene(rng, EVERY_BACKGROUND)
        views.append(scene_view(entity, rng, scene))
        factors.append((*entity.genome, *(getattr(scene, f) for f in SCENE)))
    pictures = [draw_whole(stack(views), IMAGE_SIZE, device)]
    pairs = []
    for left, right in zip(chosen[0:halves:2], chosen[1:halves:2]):
        scene = draw_scene(rng, EVERY_BACKGROUND)
        pairs.append(pair_views(left, right, rng, scene))
        shown = dict.fromkeys(SCENE, 0) | {"background": scene.background, "weather": scene.weather, "size": UNKNOWN}
        for entity, position in ((left, "left"), (right, "right")):
            factors.append((*entity.genome, *(shown | {"position": POSITIONS.index(position)}).values()))
    if pairs:
        both = draw_pairs(stack([a for a, _ in pairs]), stack([b for _, b in pairs]), IMAGE_SIZE, device)
        pictures.append(torch.stack([half_kept(both, True), half_kept(both, False)], dim=1).flatten(0, 1))
    return torch.cat(pictures), torch.tensor(factors, device=device)


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
    """Mean over the factors; those that are UNKNOWN do not count."""
    parts = logits.split(SIZES_OF_FACTORS, dim=1)
    return sum(F.cross_entropy(part, factors[:, i], label_smoothing=0.02) for i, part in enumerate(parts)) / len(parts)


def share_right(logits: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Share of the factors that are named right; those that are UNKNOWN do not count."""
    return (named(logits) == factors).float().sum() / (factors != UNKNOWN).sum()


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
        numbers = {"loss": loss.detach(), "right": share_right(logits, factors)}
        if (step + 1) % settings.log_every == 0:
            with torch.no_grad():
                numbers["held_out"] = share_right(model(held_out[0])[0], held_out[1])
        return loss, numbers

    Loop(NAME, model, settings, device, {"kind": NAME, "images_per_step": n}).run(loss_of_step, resume)
