"""`python -m bestiary.benchmark --out ../bestiary/benchmark`: what CreatureDrawBench asks for, and the true drawings.

Writes `creatures.json` (for each creature its looks, what each of its pictures in the sample knowledge base reveals, and five
prompts with what they say of the scene; factors and values are named as in the judge's model.toml) and `truths.png` (a row a
creature, a column a prompt, 64 px each).
The prompts' backgrounds are none of those of the creature's pictures: a copied scene counts as a wrong one.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from . import WORLD_VERSION
from .contact_sheet import save_sheet
from .judge import IMAGE_SIZE
from .knowledge import draw_views, entry_id
from .render import draw_whole
from .scenes import scene_prompt, scene_view, stack
from .visible import revealed
from .world import BACKGROUNDS, POSITIONS, SIZES, WORLD_SEED, Entity, held_out_entities

SCHEMA = 1
CREATURES = 50
# What each prompt says: (size, position, background).
TEMPLATES = ((True, True, True), (False, True, True), (True, False, True), (False, False, True), (True, True, False))


def prompts_of(entity: Entity, number: int):
    """The five prompts of a creature: text, what it says, and the view that is the true drawing."""
    rng = np.random.default_rng([WORLD_SEED, 3, number])
    taken = {int(b) for view, _ in draw_views(entity, number) for b in view.background}
    free = rng.permutation([b for b in range(len(BACKGROUNDS)) if b not in taken])
    for template, (says_size, says_position, says_background) in enumerate(TEMPLATES):
        size, position, background = int(rng.integers(3)), int(rng.integers(3)), int(free[template % len(free)])
        said = {"size": SIZES[size] if says_size else None, "position": POSITIONS[position] if says_position else None,
                "background": BACKGROUNDS[background] if says_background else None}
        text = scene_prompt(entity.name, said["size"], said["position"], said["background"])
        yield text, {k: v for k, v in said.items() if v}, scene_view(entity, rng, size, position, background)


def describe(entities: tuple[Entity, ...]) -> tuple[dict, list]:
    """`creatures.json` and the views of the true drawings, prompt by prompt."""
    creatures, views = [], []
    for number, entity in enumerate(entities):
        pictures = [{"id": entry_id(entity, k), "reveals": revealed(view)} for k, (view, _) in enumerate(draw_views(entity, number))]
        prompts = []
        for text, says, view in prompts_of(entity, number):
            prompts.append({"text": text, "says": says})
            views.append(view)
        creatures.append({"name": entity.name, "looks": entity.looks(), "pictures": pictures, "prompts": prompts})
    facts = {"schema": SCHEMA, "world_version": WORLD_VERSION, "knowledge_base": "creatures", "creatures": creatures}
    return facts, views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--creatures", type=int, default=CREATURES)
    a = parser.parse_args()
    facts, views = describe(held_out_entities()[: a.creatures])
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "creatures.json").write_text(json.dumps(facts, indent=1) + "\n")
    save_sheet(draw_whole(stack(views), IMAGE_SIZE), len(TEMPLATES), a.out / "truths.png")
    print(f"{len(views)} prompts of {len(facts['creatures'])} creatures in {a.out}")


if __name__ == "__main__":
    main()
