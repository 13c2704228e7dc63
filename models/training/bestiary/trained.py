"""Trained models from their checkpoints, with the averaged weights."""

import torch

from . import checkpoint
from .paths import training_dir
from .unet import UNet, UNetSettings


def averaged(name: str, prefix: str = "", device="cpu") -> tuple[dict, dict]:
    """The averaged weights below `prefix` and the checkpoint's other facts."""
    state = checkpoint.load(training_dir() / f"{name}.pt", device)
    weights = {k[len(prefix) :]: v for k, v in state["average"].items() if k.startswith(prefix)}
    facts = {k: state[k] for k in ("step", "seconds", "loss", "meta")}
    return weights, facts


def load_base(device="cpu") -> tuple[UNet, dict]:
    weights, facts = averaged("base-64", "unet.", device)
    known = UNetSettings.__dataclass_fields__
    unet = UNet(UNetSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts["meta"].items() if k in known}))
    unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False).to(device), facts


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
