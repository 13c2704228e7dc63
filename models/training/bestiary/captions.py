"""Random captions in bulk, for the text encoder's own training."""

import numpy as np

from .scenes import draw_neighbour, draw_target
from .world import BACKGROUNDS, training_entities

EVERY_BACKGROUND = np.arange(len(BACKGROUNDS))


def draw_captions(rng: np.random.Generator, count: int) -> tuple[list[str], np.ndarray]:
    """Captions and scene factors int64 [count, 3] (background, position, size; -1: not said, -100: not judged)."""
    entities = training_entities()
    texts, factors = [], []
    for i in range(count):
        entity = entities[int(rng.integers(len(entities)))]
        if i % 4:
            _, text, said = draw_target(entity, rng, EVERY_BACKGROUND)
        else:
            _, text = draw_neighbour(entity, rng, int(rng.choice(EVERY_BACKGROUND)))
            said = (-100, -100, -100)
        texts.append(text)
        factors.append(said)
    return texts, np.array(factors)
