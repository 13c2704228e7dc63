"""Super-resolution on crops: the renderer draws both resolutions of a region, so no large picture is ever drawn whole.

The small picture is blurred at random and noised at a random augmentation level, because in use it comes from a model.
"""

import numpy as np
import torch
from torch.nn import functional as F

from ..captions import EVERY_BACKGROUND
from ..diffusion import TRAIN_TIMESTEPS, diffuse
from ..frozen_text import FrozenText
from ..render import draw
from ..scenes import draw_target, stack
from ..super_resolution import SuperResolution, SuperResolutionSettings
from ..world import training_entities
from .loop import Loop, LoopSettings

MARGIN = 4  # low-resolution pixels drawn around a crop, so that upsampling at its edge sees what it will see in use
BLURRED_SHARE = 0.35
MAX_BLUR = 0.7  # standard deviation in low-resolution pixels
DROP_TEXT = 0.15
FROM_NOISE = 0.5  # share of pictures at the last timestep, where a request of one step has its only evaluation
ATTENTION_TO_CREATURE = 0.7  # chance that a crop is centred near the creature


def crop_grids(rng, views, size: int, crop: int, low: int):
    """Pixel centres of one random crop a drawing: high [N, crop, crop] and low with margin; and their pixel widths."""
    factor = size // low
    side = crop // factor
    n = len(views)
    centre = views.centre + rng.normal(0, 0.6, (n, 2)) * views.scale[:, None]
    aimed = ((centre + 1) / 2 * low - side / 2).round()
    free = rng.integers(0, low - side + 1, (n, 2))
    corner = np.where(rng.random((n, 1)) < ATTENTION_TO_CREATURE, aimed, free).clip(0, low - side)

    def grid(first, count, cells):
        step = torch.arange(count, dtype=torch.float32) + 0.5
        x = torch.from_numpy(first[:, 0].astype(np.float32))[:, None] + step
        y = torch.from_numpy(first[:, 1].astype(np.float32))[:, None] + step
        x, y = (2 * v / cells - 1 for v in (x, y))
        return x[:, None, :].expand(-1, count, -1), y[:, :, None].expand(-1, -1, count), 2 / cells

    return grid(corner * factor, crop, size), grid(corner - MARGIN, side + 2 * MARGIN, low)


def blur(pictures, rng):
    """Gaussian blur of a random width, the same for the batch, over a random share of it."""
    width = rng.uniform(0.3, MAX_BLUR)
    taps = torch.exp(-0.5 * (torch.arange(-2, 3, device=pictures.device) / width) ** 2)
    taps = taps / taps.sum()
    kernel = (taps[:, None] * taps[None]).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    chosen = torch.from_numpy(rng.random(len(pictures)) < BLURRED_SHARE).to(pictures.device)
    return torch.where(chosen[:, None, None, None], blurred, pictures)


def train(config: dict, settings: LoopSettings, device: str, resume: bool) -> None:
    s = SuperResolutionSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["model"].items()})
    data = config["data"]
    torch.manual_seed(settings.seed)
    model = SuperResolution(s).to(device, memory_format=torch.channels_last)
    text = FrozenText(device) if s.text else None
    entities = training_entities()
    n, factor = data["crops"], s.factor

    def loss_of_step(step):
        rng = np.random.default_rng([settings.seed, step])
        chosen = [draw_target(entities[int(i)], rng, EVERY_BACKGROUND) for i in rng.integers(len(entities), size=n)]
        views = stack([c[0] for c in chosen])
        high_grid, low_grid = crop_grids(rng, views, s.image_size, data["crop"], s.low_resolution_size)
        x0 = draw(views, *(g.to(device) for g in high_grid[:2]), high_grid[2])
        low = blur(draw(views, *(g.to(device) for g in low_grid[:2]), low_grid[2]), rng)
        low = F.interpolate(low, scale_factor=float(factor), mode="bilinear", align_corners=False)
        edge = MARGIN * factor
        low = low[:, :, edge:-edge, edge:-edge]
        # Cubed: low levels, which requests use, are frequent; some are exactly clean.
        level = torch.rand(n, device=device) ** 3 * (torch.rand(n, device=device) > 0.15)
        a = model.abar_at((level * (TRAIN_TIMESTEPS - 1)).round().long())
        noised = a.sqrt() * low + (1 - a).sqrt() * torch.randn_like(low)
        low = torch.where(level.view(-1, 1, 1, 1) > 0, noised, low)
        t = (torch.rand(n, device=device) * TRAIN_TIMESTEPS).long()
        t = torch.where(torch.rand(n, device=device) < FROM_NOISE, TRAIN_TIMESTEPS - 1, t)
        x = diffuse(x0, torch.randn_like(x0), model.abar[t])
        condition = ()
        if text:
            tokens, mask = text([c[1] for c in chosen])
            condition = (tokens, mask * (torch.rand(n, 1, device=device) >= DROP_TEXT))
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            guess, spread, scaled = model.scaled(x, low, t.float(), level)
            emb = model.embed(t.float(), level, *(condition or (None, None)))
            f = model.residual(scaled, low, emb, *condition).float()
        error = (guess - x0) / spread + f
        loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=1.0)
        numbers = {"loss": loss.detach(), "x0": (spread * error.detach()).square().mean()}
        numbers["guess"] = (guess.detach() - x0).square().mean()
        return loss, numbers

    meta = {"kind": f"super-resolution-{s.image_size}", **config["model"], "images_per_step": n}
    Loop(meta["kind"], model, settings, device, meta).run(loss_of_step, resume)
