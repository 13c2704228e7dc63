"""`python -m bestiary.train <model> --config configs/<model>.toml [--device cuda] [--resume] [--steps N] [--decay-steps N]
[--learning-rate R] [--threads N]`."""

import argparse
import dataclasses
import importlib
from pathlib import Path

import torch

from .loop import LoopSettings, computes_in_bf16, read_config

MODELS = {"text": "text", "base": "base", "judge": "judge", "super-resolution-256": "super_resolution", "super-resolution-1024": "super_resolution", "joint": "joint"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint, if there is one")
    parser.add_argument("--steps", type=int, help="stop after this many steps in all (the configuration's number otherwise)")
    parser.add_argument("--decay-steps", type=int, help="cool the learning rate down over the last steps")
    parser.add_argument("--learning-rate", type=float, help="its highest (the configuration's otherwise)")
    parser.add_argument("--threads", type=int, help="of this process; one each for two trainings at a time on a busy machine")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    settings = LoopSettings(**config["train"])
    for name in ("steps", "decay_steps", "learning_rate", "threads"):
        if (value := getattr(arguments, name)) is not None:
            settings = dataclasses.replace(settings, **{name: value})
    if settings.bf16 is None:
        settings = dataclasses.replace(settings, bf16=computes_in_bf16(arguments.device))
    torch.set_num_threads(settings.threads)
    importlib.import_module(f".{MODELS[arguments.model]}", __package__).train(config, settings, arguments.device, arguments.resume)


if __name__ == "__main__":
    main()
