"""The renderer and the knowledge pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from bestiary.knowledge import SIDE, VIEWS, write_knowledge
from bestiary.render import draw, draw_whole, picture_grid
from bestiary.scenes import scene_view
from bestiary.world import held_out_entities


@pytest.fixture(scope="module")
def view():
    return scene_view(held_out_entities()[0], np.random.default_rng(1), 2, 1, 0)


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
    other = scene_view(held_out_entities()[1], np.random.default_rng(1), 2, 1, 0)
    assert (draw_whole(view, 64) - draw_whole(other, 64)).abs().mean() > 0.02


def test_knowledge_pictures_are_listed_and_differ(tmp_path):
    entities = held_out_entities()[:2]
    assert write_knowledge(entities, tmp_path) == VIEWS * len(entities)
    entries = [json.loads(line) for line in (tmp_path / "entries.jsonl").read_text().splitlines()]
    assert len({e["id"] for e in entries}) == len(entries)
    pictures = [Image.open(tmp_path / e["image"]) for e in entries]
    assert all(p.size == (SIDE, SIDE) and p.mode == "RGB" for p in pictures)
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    assert all(any(x.name in e["caption"] for x in entities) for e in entries)
