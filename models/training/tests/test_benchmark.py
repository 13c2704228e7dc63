"""The benchmark: prompts whose scenes no remembered picture shows, and what each picture reveals."""

import numpy as np
import torch

from bestiary.benchmark import TEMPLATES, describe
from bestiary.judge import FACTORS, SIZES_OF_FACTORS, named
from bestiary.knowledge import VIEWS, draw_views
from bestiary.render import draw_whole
from bestiary.scenes import Scene, draw_neighbour, scene_view
from bestiary.train.judge import UNKNOWN, draw_scenes
from bestiary.visible import revealed
from bestiary.world import BACKGROUNDS, FACTORS as GENOME_FACTORS, GENOME, POSITIONS, held_out_entities


def test_a_prompts_background_is_on_none_of_the_creatures_pictures():
    entities = held_out_entities()[:6]
    facts, truths = describe(entities)
    prompts = len(facts["creatures"][0]["prompts"])
    assert len(truths) == len(entities) * prompts and prompts == len(TEMPLATES) + 2
    for number, (entity, creature) in enumerate(zip(entities, facts["creatures"])):
        assert len(creature["pictures"]) == VIEWS and len(creature["prompts"]) == prompts
        assert tuple(GENOME[f].index(creature["looks"][f]) for f in GENOME_FACTORS) == entity.genome
        shown = {BACKGROUNDS[int(view.background[0])] for view, _ in draw_views(entity, number)}
        for prompt in creature["prompts"]:
            assert entity.name in prompt["text"] and prompt["says"].get("background") not in shown
            assert all(value in prompt["text"] for factor, value in prompt["says"].items() if factor != "position")
        *_, painted, pair = creature["prompts"]
        assert painted["paint"] in painted["text"] and painted["paint"] not in (creature["looks"]["main"], creature["looks"]["second"])
        assert pair["companion"] in pair["text"] and pair["companion"] != entity.name


def test_the_pictures_of_a_creature_reveal_all_of_it_but_few_do_alone():
    entities = held_out_entities()[:40]
    shares = []
    for number, _ in enumerate(entities):
        seen = [set(revealed(view)) for view, _ in draw_views(entities[number], number)]
        assert set.union(*seen) == set(GENOME_FACTORS)
        shares += [len(s) / len(GENOME_FACTORS) for s in seen]
    assert 0.5 < np.mean(shares) < 0.85


def test_from_behind_there_is_no_face_and_a_bush_hides_the_feet():
    rng = np.random.default_rng(4)
    for entity in held_out_entities()[:20]:
        assert not {"eyes", "mouth"} & set(revealed(draw_neighbour(entity, rng, 0, "behind")[0]))
        assert not {"feet", "pattern"} & set(revealed(draw_neighbour(entity, rng, 0, "bush")[0]))


def test_a_whole_view_reveals_all_and_a_close_one_less():
    rng = np.random.default_rng(3)
    for entity in held_out_entities()[:20]:
        view = scene_view(entity, rng, Scene(0, 1, 1))
        assert revealed(view) == list(GENOME_FACTORS)
        view.scale[:], view.centre[:] = 0.85, (0.0, 0.4)  # down to the middle of the body
        assert not {"feet", "tail"} & set(revealed(view))
        assert "eyes" in revealed(view)


def test_what_is_not_revealed_does_not_show():
    """Creatures that differ only in a hidden factor look the same."""
    rng = np.random.default_rng(5)
    for entity in held_out_entities()[:20]:
        view = scene_view(entity, rng, Scene(0, 1, 1))
        close = view.take(slice(0, 1))
        close.scale, close.centre = np.full(1, 0.85, np.float32), np.array([[0.0, 0.45]], np.float32)
        back = view.take(slice(0, 1))
        back.behind = np.ones(1, np.float32)
        hedge = view.take(slice(0, 1))
        hedge.bush = np.ones(1, np.float32)
        for seen, factor in ((close, "feet"), (back, "mouth"), (back, "eyes"), (hedge, "feet")):
            assert factor not in revealed(seen)
            other = seen.take(slice(0, 1))
            other.genome = seen.genome.copy()
            other.genome[0, GENOME_FACTORS.index(factor)] = (seen.genome[0, GENOME_FACTORS.index(factor)] + 1) % len(GENOME[factor])
            assert (draw_whole(seen, 64) - draw_whole(other, 64)).abs().mean() < 2e-3


def test_a_scene_for_the_judge_is_labelled_as_it_was_drawn():
    pictures, factors = draw_scenes(held_out_entities(), np.random.default_rng(0), 5, "cpu")
    assert pictures.shape == (5, 3, 64, 64) and factors.shape == (5, len(FACTORS)) and (factors >= 0).all()
    genomes = {e.genome for e in held_out_entities()}
    assert all(tuple(row[: len(GENOME)].tolist()) in genomes for row in factors)
    logits = torch.cat([torch.nn.functional.one_hot(factors[:, i], size) for i, size in enumerate(SIZES_OF_FACTORS)], dim=1)
    assert torch.equal(named(logits.float()), factors)


def test_a_half_for_the_judge_is_a_creature_on_that_side_without_a_size():
    pictures, factors = draw_scenes(held_out_entities(), np.random.default_rng(0), 40, "cpu")
    halves = factors[:, list(FACTORS).index("size")] == UNKNOWN
    assert 0 < halves.sum() < 10
    sides = factors[halves, list(FACTORS).index("position")]
    for picture, side in zip(pictures[halves], sides):
        hidden = picture[..., 32:] if side == POSITIONS.index("left") else picture[..., :32]
        assert (hidden == hidden[..., :1]).all()
