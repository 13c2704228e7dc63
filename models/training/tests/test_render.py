"""The renderer and the knowledge pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from bestiary.knowledge import SIDE, VIEWS, write_knowledge
from bestiary.render import draw, draw_pairs, draw_whole, picture_grid
from bestiary.scenes import Scene, pair_views, scene_view
from bestiary.world import FACTOR_SIZES, FACTORS, held_out_entities
from bestiary.world import SCENE as SCENE_FACTORS

SCENE = Scene(background=0, position=1, size=2)


@pytest.fixture(scope="module")
def view():
    return scene_view(held_out_entities()[0], np.random.default_rng(1), SCENE)


def test_drawing_is_in_range_and_repeats(view):
    first, again = draw_whole(view, 64), draw_whole(view, 64)
    assert first.shape == (1, 3, 64, 64) and first.min() >= -1 and first.max() <= 1
    assert torch.equal(first, again)
    assert first.std() > 0.1


def test_a_crop_is_that_part_of_the_whole(view):
    whole = draw_whole(view, 64)
    x, y, pixel = picture_grid(32, (-1.0, -1.0, 0.0, 0.0))
    assert torch.allclose(draw(view, x, y, pixel), whole[:, :, :32, :32], atol=2e-3)


def test_a_large_picture_shrinks_to_the_small_one(view):
    small = F.avg_pool2d(draw_whole(view, 256), 4)
    assert (small - draw_whole(view, 64)).abs().mean() < 0.05


def test_another_genome_is_another_picture(view):
    other = scene_view(held_out_entities()[1], np.random.default_rng(1), SCENE)
    assert (draw_whole(view, 64) - draw_whole(other, 64)).abs().mean() > 0.02


@pytest.mark.parametrize("factor", FACTORS)
def test_every_value_of_every_factor_looks_different(view, factor):
    at = FACTORS.index(factor)
    pictures = []
    for value in range(FACTOR_SIZES[at]):
        other = view.take(slice(0, 1))
        other.genome = view.genome.copy()
        other.genome[0, at] = value
        pictures.append(draw_whole(other, 64))
    if factor == "second":
        pictures.pop(view.genome[0, FACTORS.index("main")])  # an entity's colours differ
    assert all((a - b).abs().amax() > 0.2 for i, a in enumerate(pictures) for b in pictures[:i])


@pytest.mark.parametrize("factor", SCENE_FACTORS)
def test_every_value_of_a_scene_looks_different(factor):
    def picture(value):
        return draw_whole(scene_view(held_out_entities()[0], np.random.default_rng(1), replace(SCENE, **{factor: value})), 64)

    pictures = [picture(value) for value in range(len(SCENE_FACTORS[factor]))]
    assert all((a - b).abs().mean() > 2e-3 for i, a in enumerate(pictures) for b in pictures[:i])


def test_two_creatures_share_one_background_and_keep_to_their_halves():
    left, right = pair_views(*held_out_entities()[:2], np.random.default_rng(2), SCENE)
    both = draw_pairs(left, right, 64)
    assert torch.equal(both[..., :32], draw_whole(left, 64)[..., :32]) and torch.equal(both[..., 32:], draw_whole(right, 64)[..., 32:])
    # Where neither creature is, the halves are one picture: the seam does not show.
    sky = both[:, :, :8]
    assert (sky[..., 31] - sky[..., 32]).abs().max() < 0.1


def test_knowledge_pictures_are_listed_and_differ(tmp_path):
    entities = held_out_entities()[:2]
    assert write_knowledge(entities, tmp_path) == VIEWS * len(entities)
    entries = [json.loads(line) for line in (tmp_path / "entries.jsonl").read_text().splitlines()]
    assert len({e["id"] for e in entries}) == len(entries)
    pictures = [Image.open(tmp_path / e["image"]) for e in entries]
    assert all(p.size == (SIDE, SIDE) and p.mode == "RGB" for p in pictures)
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    assert all(any(x.name in e["caption"] for x in entities) for e in entries)
