"""Trained models from their checkpoints, with the averaged weights."""

import torch

from . import checkpoint
from .paths import training_dir
from .joint import JointImage, JointText
from .judge import Judge
from .super_resolution import SuperResolution, SuperResolutionSettings
from .unet import UNet, UNetSettings


def averaged(name: str, prefix: str = "", device="cpu") -> tuple[dict, dict]:
    """The averaged weights below `prefix` and the checkpoint's other facts."""
    path = training_dir() / f"{name}.pt"
    state = checkpoint.load(path, device)
    weights = {k[len(prefix) :]: v for k, v in state["average"].items() if k.startswith(prefix)}
    facts = {k: state[k] for k in ("step", "seconds", "loss", "meta")} | {"images": state.get("images", 0), "time": path.stat().st_mtime}
    return weights, facts


def settings_from(kind, meta: dict):
    """A model's settings from a checkpoint's facts or a configuration's `[model]`; other keys are left out."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in meta.items() if k in kind.__dataclass_fields__})


def _ready(module: torch.nn.Module, weights: dict, device) -> torch.nn.Module:
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False).to(device)


def load_base(device="cpu") -> tuple[UNet, dict]:
    weights, facts = averaged("base-64", "unet.", device)
    return _ready(UNet(settings_from(UNetSettings, facts["meta"])), weights, device), facts


def load_genome_heads(device="cpu") -> torch.nn.Linear | None:
    """The heads of the base model's training; None where the checkpoint was restored from a package, which has none."""
    weights, _ = averaged("base-64", "genome_heads.", device)
    if not weights:
        return None
    factors, embedding = weights["weight"].shape
    return _ready(torch.nn.Linear(embedding, factors), weights, device)


def load_super_resolution(name: str, device="cpu") -> tuple[SuperResolution, dict]:
    weights, facts = averaged(name, "", device)
    return _ready(SuperResolution(settings_from(SuperResolutionSettings, facts["meta"])), weights, device), facts


def load_joint(device="cpu") -> tuple[JointText, JointImage, dict]:
    text, facts = averaged("joint", "text.", device)
    image, _ = averaged("joint", "image.", device)
    vocabulary = text["transformer.embed.weight"].shape[0]
    return _ready(JointText(vocabulary), text, device), _ready(JointImage(), image, device), facts


def load_judge(device="cpu") -> tuple[Judge, dict]:
    weights, facts = averaged("judge", "", device)
    return _ready(Judge(), weights, device), facts
