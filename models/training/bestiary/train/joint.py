"""The joint text and image encoders, contrastively."""

import numpy as np
import torch
from torch import nn

from ..captions import EVERY_BACKGROUND
from ..descriptions import describe
from ..joint import JointImage, JointText, contrastive_loss
from ..render import draw_whole
from ..scenes import draw_neighbour, draw_scene, scene_view, stack
from ..vocabulary import build_tokenizer, encode
from ..world import training_entities
from .loop import Loop, LoopSettings

NAME = "joint"


class JointTraining(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()
        self.text, self.image = JointText(vocabulary), JointImage()
        self.log_scale = nn.Parameter(torch.tensor(2.7))


def train(config: dict, settings: LoopSettings, device: str, resume: bool) -> None:
    tokenizer = build_tokenizer()
    torch.manual_seed(settings.seed)
    model = JointTraining(tokenizer.get_vocab_size()).to(device, memory_format=torch.channels_last)
    entities, n = training_entities(), config["data"]["pairs"]

    def loss_of_step(step):
        rng = np.random.default_rng([settings.seed, step])
        views, texts = [], []
        for i in rng.choice(len(entities), n, replace=False):
            entity = entities[int(i)]
            scene = draw_scene(rng, EVERY_BACKGROUND)
            if rng.random() < 0.5:
                views.append(scene_view(entity, rng, scene))
                texts.append(describe(entity, rng, scene.background, scene.position, scene.size))
            else:
                # A looser view: its place in the frame is not what a text would say.
                views.append(draw_neighbour(entity, rng, scene.background)[0])
                texts.append(describe(entity, rng, scene.background, None, None))
        ids, mask = (torch.from_numpy(a).to(device) for a in encode(tokenizer, texts))
        pictures = draw_whole(stack(views), 64, device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            loss, right = contrastive_loss(model.image(pictures).float(), model.text(ids, mask).float(), model.log_scale)
        return loss, {"loss": loss.detach(), "right": right}

    Loop(NAME, model, settings, device, {"kind": NAME, "images_per_step": n}).run(loss_of_step, resume)
