"""The benchmark: prompts whose scenes no remembered picture shows, and what each picture reveals."""

import numpy as np
import torch

from bestiary.benchmark import TEMPLATES, describe
from bestiary.judge import FACTORS, SIZES_OF_FACTORS, named
from bestiary.knowledge import VIEWS, draw_views
from bestiary.render import draw_whole
from bestiary.scenes import scene_view
from bestiary.train.judge import draw_scenes
from bestiary.visible import revealed
from bestiary.world import BACKGROUNDS, FACTORS as GENOME_FACTORS, GENOME, held_out_entities


def test_a_prompts_background_is_on_none_of_the_creatures_pictures():
    entities = held_out_entities()[:6]
    facts, views = describe(entities)
    assert len(views) == len(entities) * len(TEMPLATES)
    for number, (entity, creature) in enumerate(zip(entities, facts["creatures"])):
        assert len(creature["pictures"]) == VIEWS and len(creature["prompts"]) == len(TEMPLATES)
        assert tuple(GENOME[f].index(creature["looks"][f]) for f in GENOME_FACTORS) == entity.genome
        shown = {BACKGROUNDS[int(view.background[0])] for view, _ in draw_views(entity, number)}
        for prompt in creature["prompts"]:
            assert entity.name in prompt["text"] and prompt["says"].get("background") not in shown
            assert all(value in prompt["text"] for factor, value in prompt["says"].items() if factor != "position")


def test_a_whole_view_reveals_all_and_a_close_one_less():
    rng = np.random.default_rng(3)
    for entity in held_out_entities()[:20]:
        view = scene_view(entity, rng, 1, 1, 0)
        assert revealed(view) == list(GENOME_FACTORS)
        view.scale[:], view.centre[:] = 0.85, (0.0, 0.4)  # down to the middle of the body
        assert not {"feet", "tail"} & set(revealed(view))
        assert "eyes" in revealed(view)


def test_what_is_not_revealed_does_not_show():
    """Creatures that differ only in a hidden factor look the same."""
    rng = np.random.default_rng(5)
    for entity in held_out_entities()[:20]:
        view = scene_view(entity, rng, 1, 1, 0)
        view.scale[:], view.centre[:] = 0.85, (0.0, 0.45)
        assert "feet" not in revealed(view)
        other = view.take(slice(0, 1))
        other.genome = view.genome.copy()
        feet = GENOME_FACTORS.index("feet")
        other.genome[0, feet] = 1 - view.genome[0, feet]
        assert (draw_whole(view, 64) - draw_whole(other, 64)).abs().mean() < 2e-3


def test_a_scene_for_the_judge_is_labelled_as_it_was_drawn():
    pictures, factors = draw_scenes(held_out_entities(), np.random.default_rng(0), 5, "cpu")
    assert pictures.shape == (5, 3, 64, 64) and factors.shape == (5, len(FACTORS))
    genomes = {e.genome for e in held_out_entities()}
    assert all(tuple(row[: len(GENOME)].tolist()) in genomes for row in factors)
    logits = torch.cat([torch.nn.functional.one_hot(factors[:, i], size) for i, size in enumerate(SIZES_OF_FACTORS)], dim=1)
    assert torch.equal(named(logits.float()), factors)
