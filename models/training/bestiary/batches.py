"""Training batches of the base model: a few entities, several targets each, neighbours shared by an entity's targets."""

from dataclasses import dataclass

import numpy as np

from .scenes import Views, draw_neighbour, draw_said, draw_scene, draw_target, pair_prompt, pair_views, stack
from .world import BACKGROUNDS, Entity

MAX_NEIGHBOURS = 4
NEIGHBOUR_COUNTS = (0.25, 0.25, 0.2, 0.3)  # chance of 1, 2, 3, 4 neighbours
NEIGHBOUR_BACKGROUNDS = 4  # backgrounds kept for the neighbours: never a target's
PAIRS = 0.12  # share of targets that show two creatures, where there are neighbours for both
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
    paired: np.ndarray  # int64 [P] targets whose right half is that of a companion
    companions: Views | None  # P drawings


def draw_batch(entities: tuple[Entity, ...], rng: np.random.Generator, entity_count: int, targets_each: int) -> Batch:
    targets, texts, looks, captions, rows, paired, companions = [], [], [], [], [], [], []
    # One number of neighbours for the whole batch: no attention is wasted on padding.
    count = 1 + int(rng.choice(MAX_NEIGHBOURS, p=NEIGHBOUR_COUNTS))
    chosen = [entities[int(i)] for i in rng.choice(len(entities), entity_count, replace=False)]
    shown = [rng.permutation(len(BACKGROUNDS)) for _ in chosen]
    for entity, backgrounds in zip(chosen, shown):
        for k in range(count):
            view, caption = draw_neighbour(entity, rng, int(backgrounds[k % NEIGHBOUR_BACKGROUNDS]))
            looks.append(view)
            captions.append(caption)
    for index, entity in enumerate(chosen):
        other = (index + 1) % entity_count
        free = shown[index][NEIGHBOUR_BACKGROUNDS:]
        own, others = index * count + np.arange(count), other * count + np.arange(count)
        for _ in range(targets_each):
            if count > 1 and rng.random() < PAIRS:
                scene = draw_scene(rng, np.intersect1d(free, shown[other][NEIGHBOUR_BACKGROUNDS:]))
                view, companion = pair_views(entity, chosen[other], rng, scene)
                paired.append(len(targets))
                companions.append(companion)
                prompt = pair_prompt(entity.name, chosen[other].name, scene, draw_said(rng))
                row = np.concatenate([own[: (count + 1) // 2], others[: count // 2]])
            else:
                view, prompt, _ = draw_target(entity, rng, free)
                row = own
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
        paired=np.array(paired, dtype=np.int64), companions=stack(companions) if companions else None,
    )


def draw_looks(entities: tuple[Entity, ...], rng: np.random.Generator, count: int) -> tuple[Views, list[str]]:
    """One neighbour picture each of `count` different creatures, and the captions."""
    drawn = [
        draw_neighbour(entities[int(i)], rng, int(rng.integers(len(BACKGROUNDS))))
        for i in rng.choice(len(entities), count, replace=False)
    ]
    return stack([view for view, _ in drawn]), [caption for _, caption in drawn]
