"""Training batches of the base model: a few entities, several targets each, neighbours shared by an entity's targets."""

from dataclasses import dataclass

import numpy as np

from .scenes import Views, draw_neighbour, draw_target, stack
from .world import BACKGROUNDS, Entity

MAX_NEIGHBOURS = 4
NEIGHBOUR_COUNTS = (0.35, 0.30, 0.20, 0.15)  # chance of 1, 2, 3, 4 neighbours
NEIGHBOUR_BACKGROUNDS = 4  # backgrounds kept for the neighbours: never a target's
DROP_TEXT, DROP_NEIGHBOURS, DROP_BOTH = 0.15, 0.15, 0.05


@dataclass
class Batch:
    """N targets followed by M neighbours in `views` and `texts`; `neighbours` [N, K] indexes the M, `mask` [N, K] hides."""

    views: Views
    texts: list[str]
    targets: int
    neighbours: np.ndarray  # int64 [N, K]
    mask: np.ndarray  # f32 [N, K]
    text_seen: np.ndarray  # f32 [N]


def draw_batch(entities: tuple[Entity, ...], rng: np.random.Generator, entity_count: int, targets_each: int) -> Batch:
    targets, texts, looks, captions, rows = [], [], [], [], []
    # One number of neighbours for the whole batch: no attention is wasted on padding.
    count = 1 + int(rng.choice(MAX_NEIGHBOURS, p=NEIGHBOUR_COUNTS))
    for index in rng.choice(len(entities), entity_count, replace=False):
        entity = entities[int(index)]
        backgrounds = rng.permutation(len(BACKGROUNDS))
        row = len(looks) + np.arange(count)
        for k in range(count):
            view, caption = draw_neighbour(entity, rng, int(backgrounds[k % NEIGHBOUR_BACKGROUNDS]))
            looks.append(view)
            captions.append(caption)
        for _ in range(targets_each):
            view, prompt, _ = draw_target(entity, rng, backgrounds[NEIGHBOUR_BACKGROUNDS:])
            targets.append(view)
            texts.append(prompt)
            rows.append(row)
    n = len(targets)
    chance = rng.random(n)
    no_text = (chance < DROP_TEXT + DROP_BOTH).astype(np.float32)
    no_neighbours = ((chance >= DROP_TEXT) & (chance < DROP_TEXT + DROP_BOTH + DROP_NEIGHBOURS)).astype(np.float32)
    return Batch(
        views=stack(targets + looks), texts=texts + captions, targets=n, neighbours=np.stack(rows),
        mask=np.repeat((1 - no_neighbours)[:, None], count, axis=1), text_seen=1 - no_text,
    )


def draw_looks(entities: tuple[Entity, ...], rng: np.random.Generator, count: int) -> tuple[Views, list[str]]:
    """One neighbour picture each of `count` different creatures, and the captions."""
    drawn = [
        draw_neighbour(entities[int(i)], rng, int(rng.integers(len(BACKGROUNDS))))
        for i in rng.choice(len(entities), count, replace=False)
    ]
    return stack([view for view, _ in drawn]), [caption for _, caption in drawn]
