"""Scenes: where and how a creature is shown, and the words that say so.

A `Views` holds a batch of drawings as arrays, ready for the renderer. Picture coordinates: x to the right, y down, the
picture is the square [-1, 1]; lengths are in these units.
"""

from dataclasses import dataclass

import numpy as np

from .world import BACKGROUNDS, GENOME, POSITIONS, SIZES, Entity

SCALES = (0.27, 0.37, 0.50)  # half a body's width, by size
_CENTRES = ((-0.52, 0.0, 0.52), (-0.47, 0.0, 0.47), (-0.38, 0.0, 0.38))  # by size, by position
_FOOT_LINE = (0.66, 0.72, 0.80)  # y of the ground under the feet, by size
_LEG_REACH = (1.04, 1.30)  # how far the feet are below the body's centre, in scales, by feet
_JITTER = 8  # free random numbers a view's decor may use
_WORD_DROP = 0.15  # chance that a target prompt leaves out a word group

POSITION_WORDS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


@dataclass
class Views:
    """A batch of N drawings."""

    genome: np.ndarray  # int64 [N, 8]
    centre: np.ndarray  # f32 [N, 2]
    scale: np.ndarray  # f32 [N]
    tilt: np.ndarray  # f32 [N] radians
    mirror: np.ndarray  # f32 [N] +1 or -1
    turn: np.ndarray  # f32 [N] -1..1, the face's turn sideways
    background: np.ndarray  # int64 [N]
    jitter: np.ndarray  # f32 [N, 8] in 0..1

    def __len__(self) -> int:
        return len(self.scale)

    def take(self, index) -> "Views":
        return Views(*(getattr(self, f)[index] for f in self.__dataclass_fields__))


def stack(parts: list[Views]) -> Views:
    return Views(*(np.concatenate([getattr(p, f) for p in parts]) for f in Views.__dataclass_fields__))


def _view(entity: Entity, rng, centre, scale, tilt, mirror, turn, background) -> Views:
    return Views(
        genome=np.array([entity.genome], dtype=np.int64),
        centre=np.array([centre], dtype=np.float32),
        scale=np.array([scale], dtype=np.float32),
        tilt=np.array([tilt], dtype=np.float32),
        mirror=np.array([mirror], dtype=np.float32),
        turn=np.array([turn], dtype=np.float32),
        background=np.array([background], dtype=np.int64),
        jitter=rng.random((1, _JITTER), dtype=np.float32),
    )


def _standing_centre(entity: Entity, rng, size: int, position: int) -> tuple[float, float]:
    reach = _LEG_REACH[entity.genome[-1]]
    x = _CENTRES[size][position] + rng.uniform(-0.05, 0.05)
    y = _FOOT_LINE[size] - reach * SCALES[size] + rng.uniform(-0.03, 0.03)
    return x, y


def scene_prompt(name: str, size: str | None, position: str | None, background: str | None) -> str:
    """`a small dribago on the left, snow`; a None leaves its words out."""
    words = ["a"] + ([size] if size else []) + [name] + ([POSITION_WORDS[position]] if position else [])
    return " ".join(words) + (f", {background}" if background else "")


def scene_view(entity: Entity, rng, size: int, position: int, background: int) -> Views:
    """A target picture: the creature stands in its scene, hardly tilted."""
    return _view(
        entity, rng, _standing_centre(entity, rng, size, position), SCALES[size] * rng.uniform(0.95, 1.05),
        rng.uniform(-0.05, 0.05), rng.choice((-1.0, 1.0)), rng.uniform(-0.35, 0.35), background,
    )


def draw_target(entity: Entity, rng, backgrounds) -> tuple[Views, str, tuple[int, int, int]]:
    """A random scene: the view, its prompt and (background, position, size) with -1 for what the prompt leaves out."""
    size, position = int(rng.integers(3)), int(rng.integers(3))
    background = int(rng.choice(backgrounds))
    view = scene_view(entity, rng, size, position, background)
    said = rng.random(3) >= _WORD_DROP
    prompt = scene_prompt(
        entity.name,
        SIZES[size] if said[2] else None,
        POSITIONS[position] if said[1] else None,
        BACKGROUNDS[background] if said[0] else None,
    )
    factors = (background if said[0] else -1, position if said[1] else -1, size if said[2] else -1)
    return view, prompt, factors


def draw_neighbour(entity: Entity, rng, background: int, whole: bool = False) -> tuple[Views, str]:
    """Another picture of the entity: turned, tilted, mirrored, sometimes close up and partly outside the frame."""
    mirror = rng.choice((-1.0, 1.0))
    place = f", {BACKGROUNDS[background]}" if rng.random() < 0.6 else ""
    kind = 1.0 if whole else rng.random()
    if kind < 0.2:
        scale = rng.uniform(0.66, 0.85)
        centre = (rng.uniform(-0.4, 0.4), rng.uniform(-0.15, 0.4))
        view = _view(entity, rng, centre, scale, rng.uniform(-0.25, 0.25), mirror, rng.uniform(-0.7, 0.7), background)
        return view, f"a {entity.name} seen close up{place}"
    size, position = int(rng.choice(3, p=(0.15, 0.4, 0.45))), int(rng.integers(3))
    tilt, turn = rng.uniform(-0.12, 0.12), rng.uniform(-0.5, 0.5)
    pose = ""
    if kind < 0.35:
        tilt, pose = rng.choice((-1, 1)) * rng.uniform(0.2, 0.45), " tilted"
    elif kind < 0.5:
        turn, pose = rng.choice((-1, 1)) * rng.uniform(0.6, 1.0), " turned"
    centre = _standing_centre(entity, rng, size, position)
    view = _view(entity, rng, centre, SCALES[size] * rng.uniform(0.9, 1.1), tilt, mirror, turn, background)
    size_word = f"{SIZES[size]} " if rng.random() < 0.5 else ""
    where = f" {POSITION_WORDS[POSITIONS[position]]}" if rng.random() < 0.5 else ""
    return view, f"a {size_word}{entity.name}{where}{pose}{place}"


def factor_value(entity: Entity, factor: str) -> str:
    return GENOME[factor][entity.genome[list(GENOME).index(factor)]]
