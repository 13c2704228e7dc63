"""A prompt of the grammar back into what it asks for; for drawing it exactly."""

import re
from dataclasses import dataclass

from .scenes import Scene
from .world import COLOURS, SCENE, Entity, held_out_entities, training_entities

_UNSAID = {"background": "meadow", "position": "middle", "size": "medium"}


@dataclass(frozen=True)
class Request:
    """The creature (painted where the prompt names a colour), its scene, and who stands on the right where two are named."""

    entity: Entity
    scene: Scene
    companion: Entity | None = None


def parse_prompt(prompt: str) -> Request:
    """`a small blue dribago on the left, snow`. Raises ValueError when no word is a creature's name."""
    words = re.findall(r"[a-z]+", prompt.lower())
    known = {e.name: e for e in (*training_entities(), *held_out_entities())}
    entities = [known[w] for w in words if w in known]
    if not entities:
        raise ValueError(f"no creature of the world is named in {prompt!r}")

    def first(factor: str) -> int:
        values = SCENE[factor]
        return next((values.index(w) for w in words if w in values), values.index(_UNSAID.get(factor, values[0])))

    entity, *others = entities
    colour = next((COLOURS.index(w) for w in words if w in COLOURS), None)
    return Request(
        entity if colour is None else entity.painted(colour), Scene(**{f: first(f) for f in SCENE}), others[0] if others else None,
    )
