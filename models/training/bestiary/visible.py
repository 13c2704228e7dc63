"""Which genome factors a view reveals: those whose parts lie inside the frame.

A part counts as seen when the points named here are inside by a small margin. Points are in the creature's own coordinates,
as in the renderer: u to its side, v down, in scales.
"""

import numpy as np

from .render import BODIES, EARS
from .scenes import Views
from .world import FACTORS

MARGIN = 0.03  # picture units inside the frame's edge
_SHAPE, _EAR, _FEET = (FACTORS.index(f) for f in ("shape", "ears", "feet"))


def _inside(view: Views, points) -> np.ndarray:
    """Whether each (u, v) of the one drawing in `view` is in the frame."""
    u, v = np.array(points, dtype=np.float64).T
    u = u * view.mirror[0]
    cos, sin = np.cos(view.tilt[0]), np.sin(view.tilt[0])
    x = view.centre[0, 0] + view.scale[0] * (u * cos - v * sin)
    y = view.centre[0, 1] + view.scale[0] * (u * sin + v * cos)
    return np.maximum(abs(x), abs(y)) < 1 - MARGIN


def revealed(view: Views) -> list[str]:
    """Names of the factors that the one drawing in `view` shows, in the order of the genome."""
    genome = view.genome[0]
    _, _, _, (eye_y, eye_gap, eye_radius), (ear_x, ear_y), _ = BODIES[genome[_SHAPE]]
    (ear_dx, ear_dy), *_, centred = EARS[genome[_EAR]]
    tips = [(0.0, ear_y - 0.6)] if centred else [(side * (ear_x + ear_dx), ear_y + ear_dy) for side in (-1, 1)]
    soles = [(side * 0.4, 0.93 + 0.26 * genome[_FEET]) for side in (-1, 1)]
    seen = {
        "shape": _inside(view, [(-0.9, 0.2), (0.9, 0.2), (0.0, -0.7), (0.0, 0.8)]).sum() >= 3,
        "main": True,
        "pattern": _inside(view, [(0.0, 0.35), (0.0, 0.7)]).all(),
        "ears": _inside(view, tips).any(),
        "eyes": _inside(view, [(-eye_gap, eye_y), (eye_gap, eye_y), (0.0, eye_y - 1.25 * eye_radius)]).all(),
        "tail": _inside(view, [(1.17, 0.19)]).all(),
        "feet": _inside(view, soles).any(),
    }
    # The second colour is that of soles, tail's tip, inner ears and marks.
    seen["second"] = seen["feet"] or seen["tail"] or seen["ears"] or seen["pattern"]
    return [factor for factor in FACTORS if seen[factor]]
