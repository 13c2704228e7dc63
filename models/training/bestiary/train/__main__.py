"""`python -m bestiary.train <model> --config configs/<model>.toml [--device cuda] [--resume] [--steps N] [--decay-steps N] [--threads N]`."""

import argparse
import dataclasses
import importlib
from pathlib import Path

import torch

from .loop import LoopSettings, read_config

MODELS = {"text": "text", "base": "base", "judge": "judge", "super-resolution-256": "super_resolution", "super-resolution-1024": "super_resolution", "joint": "joint"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint, if there is one")
    parser.add_argument("--steps", type=int, help="stop after this many steps in all (the configuration's number otherwise)")
    parser.add_argument("--decay-steps", type=int, help="cool the learning rate down over the last steps")
    parser.add_argument("--threads", type=int, help="of this process; one each for two trainings at a time on a busy machine")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    settings = LoopSettings(**config["train"])
    for name in ("steps", "decay_steps", "threads"):
        if (value := getattr(arguments, name)) is not None:
            settings = dataclasses.replace(settings, **{name: value})
    torch.set_num_threads(settings.threads)
    importlib.import_module(f".{MODELS[arguments.model]}", __package__).train(config, settings, arguments.device, arguments.resume)


if __name__ == "__main__":
    main()
