"""Descriptive captions for the joint encoders: a creature's looks in words, parts left out at random."""

import numpy as np

from .scenes import POSITION_WORDS
from .world import BACKGROUNDS, POSITIONS, SIZES, Entity

_PATTERN = {"plain": ("plain",), "spotted": ("spotted", "with spots"), "striped": ("striped", "with stripes"),
            "bellied": ("bellied", "with a belly"), "dipped": ("dipped",), "starred": ("starred", "with a star")}
_EARS = {"pointed": "pointed ears", "rounded": "rounded ears", "long": "long ears", "horned": "horns",
         "antennae": "antennae", "unicorn": "a horn"}
_EYES = {"one": "one eye", "two": "two eyes", "three": "three eyes"}
_TAILS = {"puffy": "a puffy tail", "pointy": "a pointy tail", "curly": "a curly tail", "jagged": "a jagged tail"}
_WINGS = {"none": None, "feathered": "feathered wings", "leathery": "leathery wings"}
_MOUTHS = {"smile": "a smile", "fangs": "fangs", "beak": "a beak", "tongue": "a tongue"}
# Where the second colour is seen best.
_SECOND = {"spotted": "spots", "striped": "stripes", "bellied": "belly", "starred": "star"}
_PARTS = 3  # parts that are said at most: a caption has to fit the encoder
_NAMED = 0.4  # chance that the creature's name is said
_SAID = 0.6  # chance that a part is said


def describe(entity: Entity, rng: np.random.Generator, background: int, position: int | None, size: int | None) -> str:
    """`a large red spotted dribago with horns, snow` with some parts missing; None is never said."""
    looks = entity.looks()
    said = lambda share=_SAID: rng.random() < share  # noqa: E731
    words, withs = ["a"] if said(0.8) else [], []
    if size is not None and said(0.3):
        words.append(SIZES[size])
    if said():
        words.append(looks["shape"])
    if said(0.85):
        words.append(looks["main"])
    if said(0.7):
        form = str(rng.choice(_PATTERN[looks["pattern"]]))
        (withs if form.startswith("with ") else words).append(form.removeprefix("with "))
    words.append(entity.name if said(_NAMED) else "creature")
    if said(0.5):
        withs.append(_EARS[looks["ears"]])
    if said(0.4):
        withs.append(f"{looks['second']} {_SECOND.get(looks['pattern'], 'feet')}")
    if said(0.4):
        withs.append(_EYES[looks["eyes"]])
    if said(0.3) and _WINGS[looks["wings"]]:
        withs.append(_WINGS[looks["wings"]])
    if said(0.3):
        withs.append(_MOUTHS[looks["mouth"]])
    if said(0.2):
        withs.append(_TAILS[looks["tail"]])
    if said(0.2):
        withs.append(f"{looks['feet']} legs")
    withs = rng.permutation(withs)[:_PARTS] if withs else []
    text = " ".join(words) + (" with " + " and ".join(str(w) for w in withs) if len(withs) else "")
    if position is not None and said(0.3):
        text += " " + POSITION_WORDS[POSITIONS[position]]
    return text + (f", {BACKGROUNDS[background]}" if said() else "")
