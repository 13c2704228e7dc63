"""The base model: v-prediction at 64 px, conditioned on text and neighbours.

Besides the diffusion loss, heads on each neighbour's pooled vector name its genome. They are thrown away after
training; without them attention to neighbours is the last thing the model learns. Pixels around a creature count more than
others (`creature_weight`): eyes and mouths are a few pixels, the background is most of them and learned first. For some steps
(`looking_steps`) the DStack learns nothing but to look: many different creatures a step, no denoising.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..batches import draw_batch, draw_looks
from ..diffusion import TRAIN_TIMESTEPS, diffuse, snr_weight_v, squaredcos_cap_v2, velocity
from ..frozen_text import FrozenText
from ..render import draw_whole
from ..scenes import Views
from ..unet import UNet, UNetSettings
from ..visible import visible_genome
from ..world import FACTOR_SIZES, training_entities
from .loop import Loop, LoopSettings

NAME = "base-64"
REACH = 1.9  # half widths of a body from its centre: ears, wings, tail, feet and what it carries


def near_creature(views: Views, side: int) -> torch.Tensor:
    """[N, 1, side, side]: 1 within `REACH` scales of the creature's centre, else 0."""
    places = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = places - views.centre[:, :1], places - views.centre[:, 1:]
    near = np.hypot(x[:, None, :], y[:, :, None]) < REACH * views.scale[:, None, None]
    return torch.from_numpy(near[:, None].astype(np.float32))


class BaseTraining(nn.Module):
    """The U-Net and the genome heads."""

    def __init__(self, s: UNetSettings):
        super().__init__()
        self.unet = UNet(s)
        self.genome_heads = nn.Linear(s.embedding, sum(FACTOR_SIZES))

    def genome_loss(self, pooled, views: Views):
        """Mean cross entropy over the factors that are revealed; also the share of those named right."""
        genome = torch.from_numpy(visible_genome(views, hidden=-1)).to(pooled.device)
        logits = self.genome_heads(pooled).float().split(FACTOR_SIZES, dim=1)
        losses = [F.cross_entropy(part, genome[:, i], ignore_index=-1, reduction="sum") for i, part in enumerate(logits)]
        right = sum((part.argmax(1) == genome[:, i]).sum() for i, part in enumerate(logits))
        count = (genome >= 0).sum()
        return sum(losses) / count, right / count


def train(config: dict, settings: LoopSettings, device: str, resume: bool) -> None:
    model_settings = UNetSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["model"].items()})
    data = config["data"]
    torch.manual_seed(settings.seed)
    model = BaseTraining(model_settings).to(device)
    text = FrozenText(device)
    entities = training_entities()
    abar = squaredcos_cap_v2().to(device)

    def look(step):
        views, captions = draw_looks(entities, np.random.default_rng([settings.seed, step]), data["looks"])
        pictures = draw_whole(views, model_settings.image_size, device)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            pooled = model.unet.encode_neighbours(pictures, *text(captions))[-1]
            genome_loss, right = model.genome_loss(pooled, views)
        return genome_loss, {"genome": genome_loss.detach(), "right": right.detach()}

    def loss_of_step(step):
        if data["looking_steps"][0] <= step < data["looking_steps"][1]:
            return look(step)
        batch = draw_batch(entities, np.random.default_rng([settings.seed, step]), data["entities"], data["targets_each"])
        n = batch.targets
        pictures = draw_whole(batch.views, model_settings.image_size, device)
        tokens, text_mask = text(batch.texts)
        x0, looks = pictures[:n], pictures[n:]
        near = near_creature(batch.views.take(slice(0, n)), model_settings.image_size).to(device)
        if batch.companions is not None:
            half = model_settings.image_size // 2
            x0[batch.paired, :, :, half:] = draw_whole(batch.companions, model_settings.image_size, device)[..., half:]
            near[batch.paired, :, :, half:] = near_creature(batch.companions, model_settings.image_size).to(device)[..., half:]
        weight = 1 + (data["creature_weight"] - 1) * near
        seen = torch.from_numpy(batch.text_seen).to(device)[:, None]
        neighbours, mask = torch.from_numpy(batch.neighbours).to(device), torch.from_numpy(batch.mask).to(device)
        # Stratified timesteps: one in each n-th of the trajectory.
        t = ((torch.randperm(n, device=device) + torch.rand(n, device=device)) * (TRAIN_TIMESTEPS / n)).long().clamp_(0, TRAIN_TIMESTEPS - 1)
        noise = torch.randn_like(x0)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            features = model.unet.encode_neighbours(looks, tokens[n:], text_mask[n:])
            prediction = model.unet(
                diffuse(x0, noise, abar[t]), t.float(), tokens[:n], text_mask[:n] * seen, *(f[neighbours] for f in features), mask
            )
            genome_loss, right = model.genome_loss(features[-1], batch.views.take(slice(n, None)))
        errors = (prediction.float() - velocity(x0, noise, abar[t])).square()
        error = (weight * errors).mean((1, 2, 3)) / weight.mean((1, 2, 3))
        loss = (snr_weight_v(abar[t]) * error).mean()
        numbers = {"loss": loss.detach(), "v": errors.mean().detach(), "genome": genome_loss.detach(), "right": right.detach()}
        return loss + data["genome_weight"] * genome_loss, numbers

    meta = {"kind": NAME, **config["model"], "images_per_step": data["entities"] * data["targets_each"]}
    Loop(NAME, model, settings, device, meta).run(loss_of_step, resume)
