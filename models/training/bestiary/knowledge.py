"""`python -m bestiary.knowledge --out DIR`: pictures of held-out creatures, the input of `reverie knowledge build`.

Writes `entries.jsonl` and `images/*.png` (128 px). What each creature looks like is in the benchmark (`bestiary.benchmark`).
Each creature is shown whole, close up, from behind and behind a bush, in an order that is drawn anew for each: most pictures
show only a part of what it looks like, so that more of them tell more. The views' backgrounds differ, so that no two
pictures of a creature share a scene.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .contact_sheet import to_bytes
from .paths import training_dir
from .render import draw_whole
from .scenes import Views, draw_neighbour, stack
from .world import BACKGROUNDS, HELD_OUT_ENTITIES, WORLD_SEED, Entity, creatures_of

KINDS = ("whole", "close", "behind", "bush")
VIEWS = len(KINDS)
SIDE = 128
ATTRIBUTION = "drawn by Reverie's bestiary, Apache-2.0"


def draw_views(entity: Entity, number: int, seed: int = WORLD_SEED) -> list[tuple[Views, str]]:
    """The views of the creature `number` of a world, with captions. The same world gives the same views."""
    rng = np.random.default_rng([seed, 2, number])
    backgrounds = rng.permutation(len(BACKGROUNDS))
    return [draw_neighbour(entity, rng, int(background), str(kind)) for background, kind in zip(backgrounds, rng.permutation(KINDS))]


def entry_id(entity: Entity, view: int) -> str:
    return f"{entity.name}-{view + 1}"


def draw_entity(entity: Entity, number: int, seed: int = WORLD_SEED) -> tuple[list[dict], np.ndarray]:
    """The entries of one creature and its pictures u8 [VIEWS, SIDE, SIDE, 3]."""
    views = draw_views(entity, number, seed)
    entries = [
        {"id": entry_id(entity, k), "caption": caption, "image": f"images/{entry_id(entity, k)}.png", "attribution": ATTRIBUTION}
        for k, (_, caption) in enumerate(views)
    ]
    return entries, to_bytes(draw_whole(stack([view for view, _ in views]), SIDE))


def write_knowledge(entities: tuple[Entity, ...], out: Path, seed: int = WORLD_SEED) -> int:
    """Draws every creature's views into `out`; returns how many pictures there are."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, entity in enumerate(entities):
        entries, pictures = draw_entity(entity, number, seed)
        for entry, picture in zip(entries, pictures):
            Image.fromarray(picture).save(out / entry["image"], optimize=True)
            lines.append(json.dumps(entry))
    (out / "entries.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the training directory's knowledge-creatures when left out")
    parser.add_argument("--creatures", type=int, default=HELD_OUT_ENTITIES)
    parser.add_argument("--world", type=int, default=WORLD_SEED, metavar="SEED", help="creatures of another world instead of the held-out ones")
    a = parser.parse_args()
    out = a.out or training_dir() / "knowledge-creatures"
    count = write_knowledge(creatures_of(a.world, a.creatures), out, a.world)
    print(f"{count} pictures in {out}")


if __name__ == "__main__":
    main()
