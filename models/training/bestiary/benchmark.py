"""`python -m bestiary.benchmark --out ../bestiary/benchmark`: what the benchmarks ask for, and the true drawings.

For CreatureDrawBench it writes `creatures.json` (for each creature its looks, what each of its pictures in the sample knowledge
base reveals, and its prompts with what they say of the scene; factors and values are named as in the judge's model.toml) and
`truths.png` (a row a creature, a column a prompt, 64 px each). A creature has five prompts of scenes, one that paints it in
another colour than its own, and one that names another creature of the benchmark as well. The prompts' backgrounds are none of
those of the creature's pictures: a copied scene counts as a wrong one.

For super-resolution it writes `super-resolution.json` (prompts, and the file of each side) and `super-resolution/*.webp`, the
first creatures drawn at each side of the cascade.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import WORLD_VERSION
from .contact_sheet import save_sheet, to_bytes
from .judge import IMAGE_SIZE
from .knowledge import draw_views, entry_id
from .render import draw_pairs, draw_whole
from .scenes import Scene, draw_scene, pair_prompt, pair_views, scene_prompt, scene_view
from .visible import revealed
from .world import BACKGROUNDS, COLOURS, SCENE, WORLD_SEED, Entity, creatures_of

SCHEMA = 2
CREATURES = 50
DRAWINGS = 12
SIDES = (64, 256, 1024)  # of the cascade
# What each prompt says of the scene. Weather, accessory and pose are never the first of their values, which need no words.
TEMPLATES = (
    ("background", "position", "size", "accessory"), ("background", "position", "weather"), ("background", "size", "pose"), ("background",),
    ("position", "size", "accessory", "weather"),
)


@dataclass(frozen=True)
class Prompt:
    """`says`: factor -> value. `truth` [1, 3, 64, 64] is the true drawing."""

    text: str
    says: dict[str, str]
    truth: torch.Tensor
    paint: str | None = None
    companion: str | None = None

    def line(self) -> dict:
        marks = {"paint": self.paint, "companion": self.companion}
        return {"text": self.text, "says": self.says} | {k: v for k, v in marks.items() if v}


def _scene(rng, says, free) -> tuple[Scene, dict[str, str]]:
    """A scene in one of the backgrounds `free`, and what a prompt says that names the factors `says`."""
    values = {f: int(rng.integers(len(SCENE[f]))) for f in ("position", "size")} | {"background": int(rng.choice(free))}
    values |= {f: int(rng.integers(1, len(SCENE[f]))) for f in ("weather", "accessory", "pose") if f in says}
    return Scene(**values), {f: SCENE[f][values[f]] for f in says}


def prompts_of(entities: tuple[Entity, ...], number: int, seed: int = WORLD_SEED):
    """The prompts of one creature of `entities`."""
    entity, other = entities[number], (number + 1) % len(entities)
    rng = np.random.default_rng([seed, 3, number])
    free = _unseen(entities, number, seed)
    for says in TEMPLATES:
        scene, told = _scene(rng, says, free)
        yield Prompt(scene_prompt(entity.name, scene, says), told, draw_whole(scene_view(entity, rng, scene), IMAGE_SIZE))
    says = ("background", "size")
    scene, told = _scene(rng, says, free)
    paint = int(rng.choice(entity.paints()))
    yield Prompt(scene_prompt(entity.name, scene, says, paint), told, draw_whole(scene_view(entity.painted(paint), rng, scene), IMAGE_SIZE),
                 paint=COLOURS[paint])
    companion = entities[other]
    scene, told = _scene(rng, ("background",), np.intersect1d(free, _unseen(entities, other, seed)))
    yield Prompt(pair_prompt(entity.name, companion.name, scene), told, draw_pairs(*pair_views(entity, companion, rng, scene), IMAGE_SIZE),
                 companion=companion.name)


def _unseen(entities: tuple[Entity, ...], number: int, seed: int) -> np.ndarray:
    """Backgrounds of none of a creature's pictures."""
    seen = {int(b) for view, _ in draw_views(entities[number], number, seed) for b in view.background}
    return np.array([b for b in range(len(BACKGROUNDS)) if b not in seen])


def describe(entities: tuple[Entity, ...], seed: int = WORLD_SEED) -> tuple[dict, torch.Tensor]:
    """`creatures.json` and the true drawings, prompt by prompt."""
    creatures, truths = [], []
    for number, entity in enumerate(entities):
        pictures = [{"id": entry_id(entity, k), "reveals": revealed(view)} for k, (view, _) in enumerate(draw_views(entity, number, seed))]
        prompts = list(prompts_of(entities, number, seed))
        truths += [prompt.truth for prompt in prompts]
        creatures.append({"name": entity.name, "looks": entity.looks(), "pictures": pictures, "prompts": [p.line() for p in prompts]})
    facts = {"schema": SCHEMA, "world_version": WORLD_VERSION, "knowledge_base": "creatures", "creatures": creatures}
    return facts, torch.cat(truths)


def write_drawings(entities: tuple[Entity, ...], out: Path) -> None:
    """A drawing of each creature at every side of the cascade, without loss."""
    folder = out / "super-resolution"
    folder.mkdir(exist_ok=True)
    lines = []
    for number, entity in enumerate(entities):
        rng = np.random.default_rng([WORLD_SEED, 4, number])
        scene = draw_scene(rng, np.arange(len(BACKGROUNDS)))
        view = scene_view(entity, rng, scene)
        files = {str(side): f"super-resolution/{entity.name}-{side}.webp" for side in SIDES}
        for side, file in files.items():
            Image.fromarray(to_bytes(draw_whole(view, int(side)))[0]).save(out / file, lossless=True, quality=100)
        lines.append({"prompt": scene_prompt(entity.name, scene), "files": files})
    facts = {"schema": 1, "world_version": WORLD_VERSION, "pictures": lines}
    (out / "super-resolution.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--creatures", type=int, default=CREATURES)
    parser.add_argument("--world", type=int, default=WORLD_SEED, metavar="SEED", help="creatures of another world instead of the held-out ones")
    a = parser.parse_args()
    entities = creatures_of(a.world, a.creatures)
    facts, truths = describe(entities, a.world)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "creatures.json").write_text(json.dumps(facts, indent=1) + "\n")
    save_sheet(truths, len(facts["creatures"][0]["prompts"]), a.out / "truths.png")
    write_drawings(entities[:DRAWINGS], a.out)
    print(f"{len(truths)} prompts of {len(facts['creatures'])} creatures in {a.out}")


if __name__ == "__main__":
    main()
