"""Which genome factors a view reveals: those whose parts lie inside the frame, in front and not behind a bush.

A part counts as seen when the points named here are inside by a small margin. Points are in the creature's own coordinates,
as in the renderer: u to its side, v down, in scales.
"""

import numpy as np

from .render import BODIES, BUSH_TOP, EARS
from .scenes import Views
from .world import FACTORS, GENOME

MARGIN = 0.03  # picture units inside the frame's edge
_SHAPE, _PATTERN, _EAR, _FEET = (FACTORS.index(f) for f in ("shape", "pattern", "ears", "feet"))
# Patterns that the back has as well.
_ALL_AROUND = tuple(GENOME["pattern"].index(p) for p in ("spotted", "striped", "dipped"))


def _inside(view: Views, points) -> np.ndarray:
    """Whether each (u, v) of the one drawing in `view` is in the frame and not behind the bush."""
    u, v = np.array(points, dtype=np.float64).T
    u = u * view.mirror[0]
    cos, sin = np.cos(view.tilt[0]), np.sin(view.tilt[0])
    dx, dy = u * cos - v * sin, u * sin + v * cos
    x, y = view.centre[0, 0] + view.scale[0] * dx, view.centre[0, 1] + view.scale[0] * dy
    hidden = (view.bush[0] > 0) & (dy > BUSH_TOP - 0.05)
    return (np.maximum(abs(x), abs(y)) < 1 - MARGIN) & ~hidden


def revealed(view: Views) -> list[str]:
    """Names of the factors that the one drawing in `view` shows, in the order of the genome."""
    genome = view.genome[0]
    _, _, _, (eye_y, eye_gap, eye_radius), (ear_x, ear_y), mouth_y = BODIES[genome[_SHAPE]]
    (ear_dx, ear_dy), *_, centred = EARS[genome[_EAR]]
    tips = [(0.0, ear_y - 0.6)] if centred else [(side * (ear_x + ear_dx), ear_y + ear_dy) for side in (-1, 1)]
    soles = [(side * 0.4, 0.93 + 0.26 * genome[_FEET]) for side in (-1, 1)]
    front = view.behind[0] == 0
    seen = {
        "shape": _inside(view, [(-0.9, 0.2), (0.9, 0.2), (0.0, -0.7), (0.0, 0.8)]).sum() >= 3,
        "main": True,
        "pattern": _inside(view, [(0.0, 0.35), (0.0, 0.7)]).all() and (front or genome[_PATTERN] in _ALL_AROUND),
        "ears": _inside(view, tips).any(),
        "eyes": front and _inside(view, [(-eye_gap, eye_y), (eye_gap, eye_y), (0.0, eye_y - 1.25 * eye_radius)]).all(),
        "tail": _inside(view, [(1.17, 0.19)]).all(),
        "feet": _inside(view, soles).any(),
        "wings": _inside(view, [(-1.2, -0.45), (1.2, -0.45)]).any(),
        "mouth": front and _inside(view, [(-0.2, mouth_y), (0.2, mouth_y), (0.0, mouth_y + 0.15)]).all(),
    }
    # The second colour is that of soles, tail's tip, inner ears and marks.
    seen["second"] = seen["feet"] or seen["tail"] or seen["ears"] or seen["pattern"]
    return [factor for factor in FACTORS if seen[factor]]


def visible_genome(views: Views, hidden: int) -> np.ndarray:
    """The genomes of `views`, int64 [N, factors], with `hidden` for factors that a view does not reveal."""
    rows = views.genome.copy()
    for i in range(len(views)):
        seen = revealed(views.take(slice(i, i + 1)))
        rows[i, [f not in seen for f in FACTORS]] = hidden
    return rows
