"""Random captions in bulk, for the text encoder's own training."""

import numpy as np

from .scenes import draw_neighbour, draw_said, draw_scene, draw_target, pair_prompt
from .world import BACKGROUNDS, COLOURS, SCENE, training_entities

EVERY_BACKGROUND = np.arange(len(BACKGROUNDS))
NOT_JUDGED = -100
# What a caption may say, with the number of its values: the factors of the scene, then the main colour.
SAYABLE = {**{factor: len(values) for factor, values in SCENE.items()}, "colour": len(COLOURS)}
_NEIGHBOURS, _PAIRS = 0.25, 0.15  # shares of captions of neighbours and of two creatures


def draw_captions(rng: np.random.Generator, count: int) -> tuple[list[str], np.ndarray]:
    """Captions and what they say, int64 [count, SAYABLE] (-1: not said, NOT_JUDGED: of no interest)."""
    entities = training_entities()
    texts, factors = [], []
    for kind in rng.random(count):
        entity, other = (entities[int(i)] for i in rng.integers(len(entities), size=2))
        told = [NOT_JUDGED] * len(SAYABLE)
        if kind < _NEIGHBOURS:
            _, text = draw_neighbour(entity, rng, int(rng.choice(EVERY_BACKGROUND)))
        elif kind < _NEIGHBOURS + _PAIRS:
            text = pair_prompt(entity.name, other.name, draw_scene(rng, EVERY_BACKGROUND), draw_said(rng))
        else:
            _, text, told = draw_target(entity, rng, EVERY_BACKGROUND)
        texts.append(text)
        factors.append(told)
    return texts, np.array(factors)
