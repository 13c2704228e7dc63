"""`python -m bestiary.draw "a small dribago on the left, snow" --size 256 --out x.png`: the truth of a prompt, drawn exactly."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from .contact_sheet import to_bytes
from .prompt_parser import parse_prompt
from .render import draw_pairs, draw_whole
from .scenes import pair_views, scene_view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    asked, rng = parse_prompt(a.prompt), np.random.default_rng(a.seed)
    if asked.companion:
        picture = draw_pairs(*pair_views(asked.entity, asked.companion, rng, asked.scene), a.size)
    else:
        picture = draw_whole(scene_view(asked.entity, rng, asked.scene), a.size)
    Image.fromarray(to_bytes(picture)[0]).save(a.out)


if __name__ == "__main__":
    main()
