"""The world: names, genomes, splits, and prompts there and back."""

import numpy as np
import pytest

from bestiary.captions import draw_captions
from bestiary.descriptions import describe
from bestiary.prompt_parser import parse_prompt
from bestiary.scenes import Scene, draw_scene, pair_prompt, scene_prompt
from bestiary.vocabulary import MAX_TOKENS, UNKNOWN_ID, build_tokenizer, encode
from bestiary.world import BACKGROUNDS, FACTORS, WORLD_SEED, creatures_of, held_out_entities, name_is_free, training_entities


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


def test_a_prompt_parses_back_to_its_scene():
    rng = np.random.default_rng(2)
    for entity in held_out_entities()[:40]:
        scene = draw_scene(rng, np.arange(len(BACKGROUNDS)))
        asked = parse_prompt(scene_prompt(entity.name, scene))
        assert (asked.entity, asked.scene, asked.companion) == (entity, scene, None)


def test_a_painted_creature_keeps_all_but_its_colour():
    entity = held_out_entities()[0]
    for colour in entity.paints():
        painted = parse_prompt(scene_prompt(entity.name, Scene(0, 0, 0), colour=colour)).entity
        assert painted.value("main") == colour not in (entity.value("main"), entity.value("second"))
        assert sum(a != b for a, b in zip(painted.genome, entity.genome)) == 1


def test_of_two_creatures_the_first_stands_left():
    left, right = held_out_entities()[:2]
    asked = parse_prompt(pair_prompt(left.name, right.name, Scene(3, 1, 1)))
    assert (asked.entity, asked.companion, asked.scene.background) == (left, right, 3)


def test_captions_of_every_kind_fit_the_encoder():
    tokenizer = build_tokenizer()
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = np.random.default_rng(3)
    texts = draw_captions(rng, 2000)[0] + [describe(e, rng, 0, 1, 2) for e in training_entities()[:2000]]
    rows = tokenizer.encode_batch(texts)
    assert max(len(row.ids) for row in rows) <= MAX_TOKENS
    assert not any(UNKNOWN_ID in row.ids for row in rows)


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


def test_another_world_has_creatures_that_nobody_knows():
    known = {*training_entities(), *held_out_entities()}
    names, genomes = {e.name for e in known}, {e.genome for e in known}
    one, other = creatures_of(7, 30), creatures_of(8, 30)
    assert creatures_of(7, 20) == one[:20] and creatures_of(WORLD_SEED, 5) == held_out_entities()[:5]
    assert {e.name for e in one}.isdisjoint({e.name for e in other} | names)
    assert not {e.genome for e in (*one, *other)} & genomes
