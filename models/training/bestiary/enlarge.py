"""`python -m bestiary.enlarge "a small zunin on the left, snow" --out sheet.png`: super-resolution on its own, from drawn small pictures.

For each prompt two pictures side by side: the model's and the truth; at 256 px, or with --to 1024.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from .contact_sheet import save_sheet
from .frozen_text import FrozenText
from .prompt_parser import parse_prompt
from .render import draw_whole
from .sampling import enlarge
from .scenes import scene_view, stack
from .trained import load_super_resolution


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--to", type=int, choices=(256, 1024), default=256)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--noise-level", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    asked = [parse_prompt(p) for p in a.prompts]
    views = stack([scene_view(r.entity, np.random.default_rng(0), r.scene) for r in asked])
    model, facts = load_super_resolution(f"super-resolution-{a.to}")
    condition = FrozenText()(a.prompts) if model.settings.text else ()
    noise = torch.randn(len(views), 3, a.to, a.to, generator=torch.Generator().manual_seed(0))
    started = time.monotonic()
    made = enlarge(model, draw_whole(views, model.settings.low_resolution_size), noise, a.steps, a.noise_level, *condition)
    print(f"step {facts['step']}: {time.monotonic() - started:.1f} s")
    truth = draw_whole(views, a.to)
    print("mean square error", float((made.clamp(-1, 1) - truth).square().mean()))
    save_sheet(torch.stack([made, truth], 1).flatten(0, 1), 2 * min(2, len(views)), a.out)


if __name__ == "__main__":
    main()
