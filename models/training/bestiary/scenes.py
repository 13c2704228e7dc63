"""Scenes: where and how a creature is shown, and the words that say so.

A `Views` holds a batch of drawings as arrays, ready for the renderer. Picture coordinates: x to the right, y down, the
picture is the square [-1, 1]; lengths are in these units.
"""

from dataclasses import dataclass, replace

import numpy as np

from .world import ACCESSORIES, BACKGROUNDS, COLOURS, POSES, POSITIONS, SCENE, SIZES, WEATHERS, Entity

SCALES = (0.27, 0.37, 0.50)  # half a body's width, by size
_CENTRES = ((-0.52, 0.0, 0.52), (-0.47, 0.0, 0.47), (-0.34, 0.0, 0.34))  # by size, by position
_FOOT_LINE = (0.66, 0.72, 0.80)  # y of the ground under the feet, by size
_LEG_REACH = (1.04, 1.30)  # how far the feet are below the body's centre, in scales, by feet
_JITTER = 8  # free random numbers a view's decor may use
_JUMP = 0.6  # how high, in scales
_WORD_DROP = 0.15  # chance that a target prompt leaves out a word group
_CHANCES = {"weather": (0.6, 0.2, 0.2), "accessory": (0.52, 0.16, 0.16, 0.16), "pose": (0.75, 0.25)}
_COLOUR_SAID = 0.4  # chance that a target prompt names a main colour: half of the time not the creature's own
_PAIR_SCALE = 0.31  # of two creatures that share a picture: neither reaches the middle

POSITION_WORDS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
# Ways in which a neighbour shows its creature, with the chance of each.
VIEW_KINDS = ("whole", "close", "behind", "bush", "edge")
_KIND_CHANCES = (0.36, 0.2, 0.18, 0.16, 0.1)


@dataclass
class Views:
    """A batch of N drawings."""

    genome: np.ndarray  # int64 [N, factors]
    centre: np.ndarray  # f32 [N, 2]
    scale: np.ndarray  # f32 [N]
    tilt: np.ndarray  # f32 [N] radians
    mirror: np.ndarray  # f32 [N] +1 or -1
    turn: np.ndarray  # f32 [N] -1..1, the face's turn sideways
    lift: np.ndarray  # f32 [N] how far the feet are above the ground, in scales
    behind: np.ndarray  # f32 [N] 1: seen from behind
    bush: np.ndarray  # f32 [N] 1: a bush hides the lower half
    background: np.ndarray  # int64 [N]
    weather: np.ndarray  # int64 [N]
    accessory: np.ndarray  # int64 [N]
    jitter: np.ndarray  # f32 [N, 8] in 0..1

    def __len__(self) -> int:
        return len(self.scale)

    def take(self, index) -> "Views":
        return Views(*(getattr(self, f)[index] for f in self.__dataclass_fields__))


def stack(parts: list[Views]) -> Views:
    return Views(*(np.concatenate([getattr(p, f) for p in parts]) for f in Views.__dataclass_fields__))


@dataclass(frozen=True)
class Scene:
    """What a prompt says: indices into the values of `world.SCENE`."""

    background: int
    position: int
    size: int
    weather: int = 0
    accessory: int = 0
    pose: int = 0


EVERYTHING = frozenset(Scene.__dataclass_fields__)


def draw_scene(rng, backgrounds) -> Scene:
    """A random scene in one of `backgrounds`."""
    rare = {factor: int(rng.choice(len(p), p=p)) for factor, p in _CHANCES.items()}
    return Scene(int(rng.choice(backgrounds)), int(rng.integers(len(POSITIONS))), int(rng.integers(len(SIZES))), **rare)


def _view(entity: Entity, rng, centre, scale, tilt, mirror, turn, background, lift=0.0, behind=0.0, bush=0.0, weather=0, accessory=0) -> Views:
    number = lambda v: np.array([v], dtype=np.float32)  # noqa: E731
    index = lambda v: np.array([v], dtype=np.int64)  # noqa: E731
    return Views(
        index(entity.genome), number(centre), number(scale), number(tilt), number(mirror), number(turn), number(lift), number(behind),
        number(bush), index(background), index(weather), index(accessory), jitter=rng.random((1, _JITTER), dtype=np.float32),
    )


def _standing_centre(entity: Entity, rng, size: int, position: int) -> tuple[float, float]:
    reach = _LEG_REACH[entity.value("feet")]
    x = _CENTRES[size][position] + rng.uniform(-0.05, 0.05)
    y = _FOOT_LINE[size] - reach * SCALES[size] + rng.uniform(-0.03, 0.03)
    return x, y


def scene_prompt(name: str, scene: Scene, said=EVERYTHING, colour: int | None = None) -> str:
    """`a small blue jumping dribago with a scarf on the left, snow, rain`; factors that are not `said` are left out."""
    words = ["a"]
    if "size" in said:
        words.append(SIZES[scene.size])
    if colour is not None:
        words.append(COLOURS[colour])
    if "pose" in said and scene.pose:
        words.append(POSES[scene.pose])
    words.append(name)
    if "accessory" in said and scene.accessory:
        words.append(f"with a {ACCESSORIES[scene.accessory]}")
    if "position" in said:
        words.append(POSITION_WORDS[POSITIONS[scene.position]])
    return " ".join(words) + _around(scene, said)


def pair_prompt(left: str, right: str, scene: Scene, said=EVERYTHING) -> str:
    """`a dribago and a vornak, snow, rain`: the first stands on the left."""
    return f"a {left} and a {right}" + _around(scene, said)


def _around(scene: Scene, said) -> str:
    background = f", {BACKGROUNDS[scene.background]}" if "background" in said else ""
    return background + (f", {WEATHERS[scene.weather]}" if "weather" in said and scene.weather else "")


def scene_view(entity: Entity, rng, scene: Scene) -> Views:
    """A target picture: the creature in its scene, hardly tilted."""
    x, y = _standing_centre(entity, rng, scene.size, scene.position)
    lift = _JUMP if POSES[scene.pose] == "jumping" else 0.0
    scale = SCALES[scene.size]
    return _view(
        entity, rng, (x, y - lift * scale), scale * rng.uniform(0.95, 1.05), rng.uniform(-0.05, 0.05), rng.choice((-1.0, 1.0)),
        rng.uniform(-0.35, 0.35), scene.background, lift=lift, weather=scene.weather, accessory=scene.accessory,
    )


def pair_views(left: Entity, right: Entity, rng, scene: Scene) -> tuple[Views, Views]:
    """Two drawings with one background: the left half of the first and the right half of the second are the picture."""
    scene = replace(scene, accessory=0, pose=0)
    views = []
    for entity, position in ((left, "left"), (right, "right")):
        view = scene_view(entity, rng, replace(scene, position=POSITIONS.index(position), size=SIZES.index("small")))
        reach = _LEG_REACH[entity.value("feet")]
        view.scale[:] = _PAIR_SCALE
        view.centre[:, 0] = np.sign(view.centre[:, 0]) * 0.5 + rng.uniform(-0.02, 0.02)
        view.centre[:, 1] = _FOOT_LINE[1] - reach * _PAIR_SCALE
        views.append(view)
    views[1].jitter = views[0].jitter
    return views[0], views[1]


def draw_said(rng) -> frozenset[str]:
    """What a prompt says. Weather, things and poses are always told: silence means the first of their values."""
    left_out = {f for f in ("background", "position", "size") if rng.random() < _WORD_DROP}
    return EVERYTHING - left_out


def draw_target(entity: Entity, rng, backgrounds) -> tuple[Views, str, list[int]]:
    """A random scene: the view, its prompt, and what the prompt says: a value of each factor of `SCENE` and a main colour, -1 for none."""
    scene, said, colour = draw_scene(rng, backgrounds), draw_said(rng), None
    if rng.random() < _COLOUR_SAID:
        colour = entity.value("main") if rng.random() < 0.5 else int(rng.choice(entity.paints()))
        entity = entity.painted(colour)
    told = [getattr(scene, f) if f in said else -1 for f in SCENE] + [-1 if colour is None else colour]
    return scene_view(entity, rng, scene), scene_prompt(entity.name, scene, said, colour), told


def draw_neighbour(entity: Entity, rng, background: int, kind: str | None = None) -> tuple[Views, str]:
    """Another picture of the entity, of one of `VIEW_KINDS`: most show only a part of what it looks like."""
    kind = kind or str(rng.choice(VIEW_KINDS, p=_KIND_CHANCES))
    place = f", {BACKGROUNDS[background]}" if rng.random() < 0.6 else ""
    mirror, tilt, turn = rng.choice((-1.0, 1.0)), rng.uniform(-0.12, 0.12), rng.uniform(-0.5, 0.5)
    if kind == "close":
        scale = rng.uniform(0.8, 1.0)
        centre = (rng.uniform(-0.3, 0.3), rng.uniform(0.25, 0.45) + 0.1 * scale)
        view = _view(entity, rng, centre, scale, 2 * tilt, mirror, turn, background)
        return view, f"a {entity.name} seen close up{place}"
    size, position = int(rng.choice(3, p=(0.15, 0.4, 0.45))), int(rng.integers(3))
    scale = SCALES[size] * rng.uniform(0.9, 1.1)
    if kind == "edge":
        scale, side = SCALES[2] * rng.uniform(1.0, 1.3), rng.choice((-1.0, 1.0))
        centre = (side * rng.uniform(0.85, 1.0), rng.uniform(0.05, 0.25))
        return _view(entity, rng, centre, scale, tilt, mirror, turn, background), f"half a {entity.name}{place}"
    pose = {"behind": " from behind", "bush": " behind a bush"}.get(kind, "")
    if kind == "whole" and rng.random() < 0.5:
        tilt, turn, pose = _posed(rng, tilt, turn)
    centre = _standing_centre(entity, rng, size, position)
    view = _view(entity, rng, centre, scale, tilt, mirror, turn, background, behind=float(kind == "behind"), bush=float(kind == "bush"))
    size_word = f"{SIZES[size]} " if rng.random() < 0.5 else ""
    where = f" {POSITION_WORDS[POSITIONS[position]]}" if rng.random() < 0.5 else ""
    return view, f"a {size_word}{entity.name}{where}{pose}{place}"


def _posed(rng, tilt: float, turn: float) -> tuple[float, float, str]:
    side = rng.choice((-1, 1))
    if rng.random() < 0.5:
        return side * rng.uniform(0.2, 0.45), turn, " tilted"
    return tilt, side * rng.uniform(0.6, 1.0), " turned"
