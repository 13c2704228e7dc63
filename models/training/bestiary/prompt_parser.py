"""A prompt of the grammar back into a scene; for drawing what a prompt asks for."""

import re
from dataclasses import dataclass

from .world import BACKGROUNDS, POSITIONS, SIZES, Entity, held_out_entities, training_entities


@dataclass(frozen=True)
class Scene:
    """Indices into the world's word lists; what the prompt leaves out has a default."""

    entity: Entity
    size: int
    position: int
    background: int


def parse_prompt(prompt: str) -> Scene:
    """`a small dribago on the left, snow`. Raises ValueError when no word is a creature's name."""
    words = re.findall(r"[a-z]+", prompt.lower())
    known = {e.name: e for e in (*training_entities(), *held_out_entities())}
    names = [w for w in words if w in known]
    if not names:
        raise ValueError(f"no creature of the world is named in {prompt!r}")

    def first(values, default):
        return next((values.index(w) for w in words if w in values), values.index(default))

    return Scene(known[names[0]], first(SIZES, "medium"), first(POSITIONS, "middle"), first(BACKGROUNDS, "meadow"))
