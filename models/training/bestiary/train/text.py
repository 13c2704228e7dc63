"""The text encoder, trained alone and then frozen: it names the scene and reconstructs every token, masked ones included."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..captions import SAYABLE, draw_captions
from ..text_encoder import TextTransformer, masked_mean
from ..vocabulary import MASK_ID, build_tokenizer, encode
from .loop import Loop, LoopSettings

MASKED_SHARE = 0.15
NAME = "text-encoder"


class TextTraining(nn.Module):
    """The encoder and the heads that are thrown away."""

    def __init__(self, vocabulary: int, dim: int, layers: int):
        super().__init__()
        self.encoder = TextTransformer(vocabulary, dim, layers)
        self.token_head = nn.Linear(dim, vocabulary)
        # One more class each: the caption does not say.
        self.scene_heads = nn.ModuleList(nn.Linear(dim, n + 1) for n in SAYABLE.values())


def train(config: dict, settings: LoopSettings, device: str, resume: bool) -> None:
    tokenizer = build_tokenizer()
    model = TextTraining(tokenizer.get_vocab_size(), **config["model"]).to(device)
    batch = config["data"]["captions"]

    def loss_of_step(step):
        rng = np.random.default_rng([settings.seed, step])
        texts, said = draw_captions(rng, batch)
        ids, mask = (torch.from_numpy(a).to(device) for a in encode(tokenizer, texts))
        said = torch.from_numpy(said).to(device)
        hidden = (torch.rand(ids.shape, device=device) < MASKED_SHARE) & (mask > 0)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            tokens = model.encoder(ids.masked_fill(hidden, MASK_ID), mask)
            logits = model.token_head(tokens)
            pooled = masked_mean(tokens, mask)
            scene = [head(pooled) for head in model.scene_heads]
        token_loss = F.cross_entropy(logits.float()[mask > 0], ids[mask > 0])
        scene_loss = 0.0
        for i, head in enumerate(scene):
            target = torch.where(said[:, i] == -1, torch.full_like(said[:, i], head.shape[1] - 1), said[:, i])
            scene_loss = scene_loss + F.cross_entropy(head.float(), target)
        loss = token_loss + scene_loss
        return loss, {"loss": loss.detach(), "tokens": token_loss.detach(), "scene": scene_loss.detach()}

    meta = {"kind": NAME, **config["model"], "images_per_step": batch}
    Loop(NAME, model, settings, device, meta).run(loss_of_step, resume)
