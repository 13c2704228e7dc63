"""The graphs of the packages: each a module with the contract's inputs and outputs in order, and example inputs."""

from dataclasses import dataclass, field

import torch
from torch import nn

from .unet import NEIGHBOUR_FEATURES
from .vocabulary import MAX_TOKENS

BATCH, NEIGHBOURS = 2, 3  # of the example inputs; both axes stay dynamic


@dataclass
class Graph:
    """`inputs`: name -> example tensor; `dynamic`: name -> {axis: its name}, for inputs and outputs alike."""

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: list[str]
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)

    def __post_init__(self):
        for name in (*self.inputs, *self.outputs):
            self.dynamic.setdefault(name, {0: "batch"})


def _token_inputs():
    ids = torch.randint(3, 60, (BATCH, MAX_TOKENS))
    mask = (torch.arange(MAX_TOKENS) < torch.tensor([[9], [14]])).long()
    return {"token_ids": ids * mask, "attention_mask": mask}


def _text_condition(dim: int):
    mask = (torch.arange(MAX_TOKENS) < torch.tensor([[9], [0]])).float()
    return {"text_tokens": torch.randn(BATCH, MAX_TOKENS, dim), "text_mask": mask}


def text_encoder(encoder) -> Graph:
    return Graph(encoder, _token_inputs(), ["text_tokens"])


def joint_text(encoder) -> Graph:
    return Graph(encoder, _token_inputs(), ["embedding"])


def joint_image(encoder) -> Graph:
    return Graph(encoder, {"image": torch.randn(BATCH, 3, 64, 64)}, ["embedding"])


def judge(model) -> Graph:
    return Graph(model, {"image": torch.rand(BATCH, 3, 64, 64) * 2 - 1}, ["logits", "features"])


class NeighbourEncoder(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, image, text_tokens, text_mask):
        return self.unet.encode_neighbours(image, text_tokens, text_mask)


def neighbour_encoder(unet) -> Graph:
    side = unet.settings.image_size
    inputs = {"image": torch.randn(BATCH, 3, side, side), **_text_condition(unet.settings.text_dim)}
    return Graph(NeighbourEncoder(unet), inputs, list(NEIGHBOUR_FEATURES))


class Denoiser(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, timestep, text_tokens, text_mask, kv16, kv8a, kv8b, pooled, neighbour_mask):
        return self.unet(x, timestep, text_tokens, text_mask, kv16, kv8a, kv8b, pooled, neighbour_mask)


def denoiser(unet) -> Graph:
    s = unet.settings
    text = _text_condition(s.text_dim)
    with torch.no_grad():
        looks = torch.randn(BATCH * NEIGHBOURS, 3, s.image_size, s.image_size)
        features = unet.encode_neighbours(looks, *(v.repeat(NEIGHBOURS, 1, 1)[: len(looks)] if v.dim() == 3 else v.repeat(NEIGHBOURS, 1) for v in text.values()))
    inputs = {"x": torch.randn(BATCH, 3, s.image_size, s.image_size), "timestep": torch.tensor([999.0, 37.0]), **text}
    inputs |= {name: f.unflatten(0, (BATCH, NEIGHBOURS)) for name, f in zip(NEIGHBOUR_FEATURES, features)}
    inputs["neighbour_mask"] = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    both = {0: "batch", 1: "neighbours"}
    return Graph(Denoiser(unet), inputs, ["prediction"], {name: dict(both) for name in (*NEIGHBOUR_FEATURES, "neighbour_mask")})


def super_resolution(model) -> Graph:
    s = model.settings
    picture = lambda: torch.rand(BATCH, 3, s.image_size, s.image_size) * 2 - 1  # noqa: E731
    inputs = {"x": picture(), "low_resolution": picture(), "timestep": torch.tensor([999.0, 37.0]), "noise_level": torch.tensor([0.1, 0.0])}
    if s.text:
        inputs |= _text_condition(s.text_dim)
    return Graph(model, inputs, ["prediction"])
