"""Checkpoints: written atomically, holding weights, their moving average, the optimiser and where training was."""

import os
from pathlib import Path

import torch


def save(path: Path, state: dict) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path, device="cpu") -> dict:
    return torch.load(path, map_location=device, weights_only=True)


class MovingAverage:
    """Exponential moving average of a module's parameters; `warm` steps let young averages follow faster."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.999):
        self.decay = decay
        self.values = {k: v.detach().clone().float() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        floats = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floats], [state[k].float() for k in floats], 1 - decay)
