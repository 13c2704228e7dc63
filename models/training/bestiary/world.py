"""Entities of the world: a pseudo-word name and, independent of it, a genome (what the creature looks like)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .vocabulary import WORDS

WORLD_SEED = 20260
TRAINING_ENTITIES = 4000
HELD_OUT_ENTITIES = 240

COLOURS = (
    "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white", "grey", "black",
)

# factor -> its values; a genome is one index per factor, in this order.
GENOME = {
    "shape": ("round", "tall", "wide", "square", "pear", "drop", "dome", "peanut"),
    "main": COLOURS,
    "second": COLOURS,  # never the main colour
    "pattern": ("plain", "spotted", "striped", "bellied", "dipped", "starred"),
    "ears": ("pointed", "rounded", "long", "horned", "antennae", "unicorn"),
    "eyes": ("one", "two", "three"),
    "tail": ("puffy", "pointy", "curly", "jagged"),
    "feet": ("short", "long"),
    "wings": ("none", "feathered", "leathery"),
    "mouth": ("smile", "fangs", "beak", "tongue"),
}
FACTORS = tuple(GENOME)
FACTOR_SIZES = tuple(len(values) for values in GENOME.values())

BACKGROUNDS = (
    "meadow", "desert", "snow", "night", "sea", "sunset", "forest", "cave", "volcano", "blossom",
)
POSITIONS = ("left", "middle", "right")
SIZES = ("small", "medium", "large")
# Of these three the first value is what a prompt means that says nothing.
WEATHERS = ("clear", "rain", "rainbow")
ACCESSORIES = ("nothing", "scarf", "balloon", "gift")
POSES = ("standing", "jumping")
# factor -> its values, as in `scenes.Scene`.
SCENE = {
    "background": BACKGROUNDS, "position": POSITIONS, "size": SIZES, "weather": WEATHERS, "accessory": ACCESSORIES, "pose": POSES,
}

_ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z",
           "br", "dr", "gr", "kr", "tr", "fl", "gl", "pl", "sk", "sn", "th")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "", "", "n", "l", "r", "m", "x", "k")
_SYLLABLES = (2, 4)
_LONGEST_NAME = 12


@dataclass(frozen=True)
class Entity:
    """One creature: `genome` holds one index per entry of `FACTORS`."""

    name: str
    genome: tuple[int, ...]

    def looks(self) -> dict[str, str]:
        """Factor name -> value, in words."""
        return {f: GENOME[f][i] for f, i in zip(FACTORS, self.genome)}

    def value(self, factor: str) -> int:
        """Index of the entity's value of a genome factor."""
        return self.genome[FACTORS.index(factor)]

    def painted(self, main: int) -> "Entity":
        """The same creature with another main colour: what a prompt of `a blue dribago` asks for."""
        at = FACTORS.index("main")
        return Entity(self.name, (*self.genome[:at], main, *self.genome[at + 1 :]))

    def paints(self) -> list[int]:
        """Main colours that it can be painted in: neither of its own two."""
        return [c for c in range(len(COLOURS)) if c not in (self.value("main"), self.value("second"))]


def _draw_name(rng: np.random.Generator) -> str:
    count = rng.integers(_SYLLABLES[0], _SYLLABLES[1] + 1)
    syllables = [str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) for _ in range(count)]
    return "".join(syllables) + str(rng.choice(_CODAS))


def name_is_free(name: str) -> bool:
    """A name may not start with a word of the prompts' grammar: WordPiece would cut that word off."""
    return len(name) <= _LONGEST_NAME and not any(len(w) > 1 and name.startswith(w) for w in WORDS)


def _draw_genome(rng: np.random.Generator) -> tuple[int, ...]:
    genome = [int(rng.integers(size)) for size in FACTOR_SIZES]
    main, second = FACTORS.index("main"), FACTORS.index("second")
    # One of the eleven colours that are not the main one.
    genome[second] = int((genome[main] + 1 + rng.integers(len(COLOURS) - 1)) % len(COLOURS))
    return tuple(genome)


@lru_cache(maxsize=1)
def _entities() -> tuple[Entity, ...]:
    names_rng, genome_rng = np.random.default_rng([WORLD_SEED, 0]), np.random.default_rng([WORLD_SEED, 1])
    names: dict[str, None] = {}
    genomes: dict[tuple[int, ...], None] = {}
    total = TRAINING_ENTITIES + HELD_OUT_ENTITIES
    while len(names) < total:
        name = _draw_name(names_rng)
        if name_is_free(name):
            names[name] = None
    while len(genomes) < total:
        genomes[_draw_genome(genome_rng)] = None
    return tuple(Entity(n, g) for n, g in zip(names, genomes))


def creatures_of(seed: int, count: int) -> tuple[Entity, ...]:
    """The first `count` creatures of the world with this seed: the held-out ones of `WORLD_SEED`, or new ones."""
    if seed == WORLD_SEED:
        return held_out_entities()[:count]
    names_rng, genome_rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    known_names, known_genomes = {e.name for e in _entities()}, {e.genome for e in _entities()}
    names: dict[str, None] = {}
    genomes: dict[tuple[int, ...], None] = {}
    while len(names) < count:
        name = _draw_name(names_rng)
        if name_is_free(name) and name not in known_names:
            names[name] = None
    while len(genomes) < count:
        genome = _draw_genome(genome_rng)
        if genome not in known_genomes:
            genomes[genome] = None
    return tuple(Entity(n, g) for n, g in zip(names, genomes))


def training_entities() -> tuple[Entity, ...]:
    return _entities()[:TRAINING_ENTITIES]


def held_out_entities() -> tuple[Entity, ...]:
    """Names and genomes that no training picture shows."""
    return _entities()[TRAINING_ENTITIES:]
