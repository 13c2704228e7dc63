"""The world: names, genomes, splits, and prompts there and back."""

import numpy as np
import pytest

from bestiary.prompt_parser import parse_prompt
from bestiary.scenes import scene_prompt
from bestiary.vocabulary import MAX_TOKENS, UNKNOWN_ID, build_tokenizer, encode
from bestiary.world import BACKGROUNDS, FACTORS, POSITIONS, SIZES, held_out_entities, name_is_free, training_entities


def test_held_out_creatures_share_neither_name_nor_genome_with_training():
    seen, unseen = training_entities(), held_out_entities()
    assert not {e.name for e in seen} & {e.name for e in unseen}
    assert not {e.genome for e in seen} & {e.genome for e in unseen}


def test_the_second_colour_is_never_the_main_one():
    main, second = FACTORS.index("main"), FACTORS.index("second")
    assert all(e.genome[main] != e.genome[second] for e in training_entities())


def test_a_name_says_nothing_about_the_main_colour():
    # Were names tied to looks, creatures sharing a first letter would share colours far more often than one in twelve.
    rng = np.random.default_rng(0)
    entities = training_entities()
    pairs = [(entities[int(a)], entities[int(b)]) for a, b in rng.integers(len(entities), size=(20000, 2))]
    alike = [a.genome[1] == b.genome[1] for a, b in pairs if a.name[0] == b.name[0]]
    assert abs(np.mean(alike) - 1 / 12) < 0.03


@pytest.mark.parametrize("index", range(5))
def test_a_prompt_parses_back_to_its_scene(index):
    entity = held_out_entities()[index]
    size, position, background = index % len(SIZES), (index + 1) % len(POSITIONS), 2 * index % len(BACKGROUNDS)
    scene = parse_prompt(scene_prompt(entity.name, SIZES[size], POSITIONS[position], BACKGROUNDS[background]))
    assert (scene.entity, scene.size, scene.position, scene.background) == (entity, size, position, background)


def test_a_prompt_without_a_creature_is_refused():
    with pytest.raises(ValueError, match="no creature"):
        parse_prompt("a small cloud, snow")


def test_names_go_letter_by_letter_and_fit():
    tokenizer = build_tokenizer()
    names = [e.name for e in held_out_entities()]
    ids, mask = encode(tokenizer, names)
    assert ids.shape == (len(names), MAX_TOKENS)
    assert not (ids == UNKNOWN_ID).any()
    assert [int(m.sum()) for m in mask] == [len(n) for n in names]


def test_a_name_may_not_begin_with_a_word_of_the_grammar():
    assert not name_is_free("snowlin") and name_is_free("dribago")
