"""The renderer: batched vector art from signed distances, at any resolution and for any crop.

`draw` takes points of the picture plane and a pixel's width, so a crop of a large picture costs what its own pixels cost.
A distance `d` is negative inside; `cover(d)` is the antialiased share of the pixel that the shape fills.
Notation: `p.x`, `p.y` [N, H, W] are points; per-drawing numbers are [N, 1, 1]; colours are [N, 3].
"""

import torch

from .palette import DECOR, ground_table, rgb
from .scenes import Views
from .world import ACCESSORIES, WEATHERS

SHADOW_Y = 1.02
RAIN, RAINBOW_WEATHER = WEATHERS.index("rain"), WEATHERS.index("rainbow")
SCARF, BALLOON, GIFT = (ACCESSORIES.index(a) for a in ("scarf", "balloon", "gift"))
RAINBOW = ("7a4fc8", "4a8cf0", "58c26a", "f7e04a", "f59a3c", "e8453c")  # from the inside out
RAINBOW_INSIDE, RAINBOW_WIDTH = 0.72, 0.30
MOUTH_SIZE = 1.4
BUSH_TOP = 0.42  # below a creature's centre, in scales: what is lower is hidden
_SCARF_COLOURS, _BALLOON_COLOUR, _GIFT_COLOURS = ("d42a4a", "fff6e8"), "ff3b5c", ("6a4fd0", "ffd84a")
STREWN_VARIANTS = 4  # arrangements of stars, flakes and flowers a background has
OUTLINE = 0.075  # in scales
DARKEN = 0.28

# Bodies: a vertical tapered capsule (y0, r0, y1, r1) smoothly joined (k) to a rounded box (y, half width, half height, radius).
# In scales, y down. A radius of -9 takes the part away. Then eyes (y, spacing, radius), ears (x, y), mouth y.
_GONE = (0.0, -9.0, 0.01, -9.0)
_NO_BOX = (0.0, 0.01, 0.01, -9.0)
BODIES = (
    # capsule                     box                        k     eyes                ears           mouth
    ((0.10, 0.90, 0.11, 0.90), (0.1, 0.5, 0.5, 0.5), 0.02, (-0.10, 0.34, 0.215), (0.52, -0.60), 0.30),  # round
    ((-0.42, 0.58, 0.42, 0.60), (0.2, 0.3, 0.3, 0.3), 0.02, (-0.42, 0.27, 0.200), (0.36, -0.86), -0.02),  # tall
    (_GONE, (0.40, 1.08, 0.60, 0.56), 0.02, (0.22, 0.40, 0.215), (0.66, -0.12), 0.60),  # wide
    (_GONE, (0.14, 0.86, 0.86, 0.20), 0.02, (-0.16, 0.36, 0.215), (0.60, -0.66), 0.28),  # square
    ((0.24, 0.76, -0.56, 0.42), (0.3, 0.5, 0.4, 0.4), 0.10, (-0.46, 0.22, 0.185), (0.28, -0.84), -0.12),  # pear
    ((0.22, 0.80, -1.02, 0.10), (0.3, 0.4, 0.4, 0.4), 0.05, (0.02, 0.32, 0.200), (0.38, -0.46), 0.40),  # drop
    ((0.10, 0.86, 0.11, 0.86), (0.66, 0.90, 0.34, 0.10), 0.06, (-0.06, 0.34, 0.215), (0.52, -0.56), 0.34),  # dome
    ((-0.44, 0.58, -0.43, 0.58), (0.50, 0.84, 0.48, 0.48), 0.10, (-0.48, 0.25, 0.195), (0.38, -0.86), -0.12),  # peanut
)
# Ears: from the ear point a capsule to (dx, dy), radii at both ends, a ball's radius at its end, sideways bend, centred (horn).
EARS = (
    ((0.16, -0.46), 0.26, 0.03, -9.0, 0.0, 0.0),  # pointed
    ((0.10, -0.16), 0.30, 0.30, -9.0, 0.0, 0.0),  # rounded
    ((0.06, -0.78), 0.16, 0.20, -9.0, 0.0, 0.0),  # long
    ((0.34, -0.52), 0.17, 0.02, -9.0, 0.30, 0.0),  # horned
    ((0.18, -0.60), 0.045, 0.045, 0.17, 0.0, 0.0),  # antennae
    ((0.0, -0.78), 0.20, 0.01, -9.0, 0.0, 1.0),  # unicorn
)
_INNER_EAR = (0.55, 0.55, 0.5, 1.5, 1.5, 1.5)  # how much of the ear's radius the second colour takes; above 1: all of it


def picture_grid(side: int, region=(-1.0, -1.0, 1.0, 1.0), device="cpu"):
    """Pixel centres of a `side` x `side` picture of `region` (x0, y0, x1, y1): x, y [side, side] and the pixel's width."""
    x0, y0, x1, y1 = region
    step = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(y0 + step * (y1 - y0), x0 + step * (x1 - x0), indexing="ij")
    return x, y, (x1 - x0) / side


def _col(table, index, device):
    """Rows of a table by index, split into [N, 1, 1] columns."""
    rows = torch.tensor(table, dtype=torch.float32, device=device)[index]
    return [c[:, None, None] for c in rows.unbind(1)]


def _over(picture, colour, alpha):
    """Lays `colour` [N, 3] (or a picture) over `picture` with `alpha` [N, H, W]."""
    if colour.dim() == 2:
        colour = colour[:, :, None, None]
    picture.lerp_(colour.expand_as(picture), alpha[:, None].expand_as(picture))


def _segment(x, y, ax, ay, bx, by, ra, rb):
    """A capsule from a to b whose radius goes from ra to rb."""
    dx, dy = bx - ax, by - ay
    px, py = x - ax, y - ay
    h = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp_(0, 1)
    return torch.hypot(px - h * dx, py - h * dy).sub_(ra + h * (rb - ra))


def _box(x, y, hw, hh, r):
    qx, qy = x.abs() - (hw - r), y.abs() - (hh - r)
    return torch.hypot(qx.clamp_min(0), qy.clamp_min(0)) + torch.maximum(qx, qy).clamp_max_(0) - r


def _disk(x, y, cx, cy, r):
    return torch.hypot(x - cx, y - cy) - r


def _smooth_union(a, b, k):
    h = (k - (a - b).abs()).clamp_min(0) / k
    return torch.minimum(a, b) - h * h * k * 0.25


def _hash(ix, iy, seed):
    v = torch.sin(ix * 12.9898 + iy * 78.233 + seed * 37.719) * 43758.547
    return v - v.floor()


def _dots(x, y, cell, radius, density, seed):
    """Distance to round dots, at most one a grid cell, strewn by a hash."""
    ix, iy = (x / cell).floor(), (y / cell).floor()
    there = _hash(ix, iy, seed) < density
    shift_x, shift_y = _hash(ix, iy, seed + 3.1), _hash(ix, iy, seed + 7.7)
    cx, cy = (ix + 0.25 + 0.5 * shift_x) * cell, (iy + 0.25 + 0.5 * shift_y) * cell
    d = torch.hypot(x - cx, y - cy) - radius
    return torch.where(there, d, torch.full_like(d, 9.0))


class _Tensors:
    """A `Views` as tensors: per-drawing numbers [N, 1, 1], indices [N]."""

    def __init__(self, views: Views, device):
        number = lambda a: torch.from_numpy(a).to(device)[:, None, None]  # noqa: E731
        self.genome = torch.from_numpy(views.genome).to(device)
        self.background, self.weather, self.accessory = (
            torch.from_numpy(a).to(device) for a in (views.background, views.weather, views.accessory)
        )
        self.jitter = [number(views.jitter[:, i]) for i in range(views.jitter.shape[1])]
        self.pose = [
            number(a) for a in (*views.centre.T, views.scale, views.mirror, views.turn, views.tilt, views.lift, views.behind)
        ]
        self.bush = number(views.bush)


def _paint(t: _Tensors, x, y, pixel):
    picture = _background(t.background, t.weather, t.jitter, x, y, pixel)
    _accessory_behind(picture, t.accessory, t.pose, x, y, pixel)
    _creature(picture, t.genome, t.accessory, t.pose, x, y, pixel)
    if t.bush.any():
        _bush(picture, t.background, t.bush, t.pose, x, y, pixel)
    if (t.weather == RAIN).any():
        _rain(picture, t.weather, t.jitter, x, y, pixel)
    return picture.mul_(2).sub_(1).clamp_(-1, 1)


@torch.no_grad()
def draw(views: Views, x: torch.Tensor, y: torch.Tensor, pixel: float) -> torch.Tensor:
    """Pictures f32 [N, 3, H, W] in [-1, 1] at the points x, y ([H, W] or [N, H, W]); `pixel` is a pixel's width."""
    if x.dim() == 2:
        x, y = (v.expand(len(views), *v.shape) for v in (x, y))
    return _paint(_Tensors(views, x.device), x, y, pixel)


def draw_whole(views: Views, side: int, device="cpu", chunk_pixels: int = 1 << 16) -> torch.Tensor:
    """Whole pictures [N, 3, side, side], in chunks that stay in the cache."""
    x, y, pixel = picture_grid(side, device=device)
    count = max(1, chunk_pixels // (side * side))
    parts = [draw(views.take(slice(i, i + count)), x, y, pixel) for i in range(0, len(views), count)]
    return torch.cat(parts)


def draw_pairs(left: Views, right: Views, side: int, device="cpu") -> torch.Tensor:
    """Two creatures a picture: the left half of one drawing and the right half of the other (`scenes.pair_views`)."""
    half = side // 2
    return torch.cat([draw_whole(left, side, device)[..., :half], draw_whole(right, side, device)[..., half:]], dim=-1)


def _background(index, weather, jitter, x, y, pixel):
    d = {k: v.to(x.device)[index] for k, v in DECOR.items()}
    n = {k: v[:, None, None] for k, v in d.items() if v.dim() == 1}
    cover = lambda dist: (0.5 - dist / pixel).clamp_(0, 1)  # noqa: E731
    seed = (jitter[0] * STREWN_VARIANTS).floor()
    rise = ((y + 1) / (1 + n["horizon"])).clamp(0, 1)
    picture = torch.lerp(d["sky_top"][:, :, None, None], d["sky_low"][:, :, None, None], rise[:, None])
    # Sun, moon or glow.
    sun_x = jitter[1] * 1.5 - 0.75
    sun = _disk(x, y, sun_x, n["sun_y"] + 0.1 * jitter[2], n["sun"])
    glow = (1 - sun / 0.5).clamp(0, 1).square() * (n["sun"] > 0) * 0.35
    _over(picture, d["sun_colour"], torch.maximum(glow, cover(sun)))
    # Far dots in the sky: stars, snow flakes, petals, clouds' puffs.
    flakes = _dots(x, y * n["flake_stretch"], n["flake_cell"], n["flake"], n["flake_density"], seed)
    _over(picture, d["flake_colour"], cover(flakes) * 0.85)
    # A rainbow: bands of a ring about a point on the horizon.
    ring = (torch.hypot(x - 0.5 * (jitter[3] - 0.5), (y - n["horizon"] - 0.05) * 1.05) - RAINBOW_INSIDE) / RAINBOW_WIDTH
    hue = (ring.clamp(0, 0.999) * (len(RAINBOW) - 1)).unsqueeze(1)
    bands = torch.tensor([rgb(c) for c in RAINBOW], device=x.device)
    colour = sum((1 - (hue - i).abs()).clamp_min(0) * band.view(1, 3, 1, 1) for i, band in enumerate(bands))
    rainbow = cover((ring - 0.5).abs() * RAINBOW_WIDTH - RAINBOW_WIDTH / 2) * (weather == RAINBOW_WEATHER)[:, None, None] * 0.85
    _over(picture, colour, rainbow)
    # Far hills: sine or saw-tooth.
    phase = (x + 2 * jitter[3]) * n["hill_frequency"]
    saw = (2 * (phase - phase.floor()) - 1).abs()
    wave = 0.5 - 0.5 * torch.cos(6.2832 * phase)
    hill = y - (n["horizon"] + 0.03 - n["hill"] * torch.where(n["hill_sharp"] > 0, saw, wave))
    _over(picture, d["hill_colour"], cover(-hill) * (n["hill"] > 0))
    # Ceiling (cave).
    roof_phase = (x + 2 * jitter[4]) * 2.1
    roof = y + 1 - n["roof"] * (0.25 + (2 * (roof_phase - roof_phase.floor()) - 1).abs())
    _over(picture, d["roof_colour"], cover(roof) * (n["roof"] > 0))
    # Ground with a gentle edge, waves and strewn dots.
    edge = n["horizon"] + 0.03 * torch.sin(5 * x + 6.28 * jitter[5])
    ground = edge - y
    depth = ((y - n["horizon"]) / (1 - n["horizon"])).clamp(0, 1)
    fill = torch.lerp(d["ground_far"][:, :, None, None], d["ground_near"][:, :, None, None], depth[:, None])
    ripple = torch.sin(y * n["ripple_frequency"] + 2.5 * torch.sin(4 * x + 6.28 * jitter[6]))
    fill = fill + (n["ripple"] * ripple)[:, None]
    picture.lerp_(fill, cover(ground)[:, None].expand_as(picture))
    strewn = _dots(x, y * 1.7, 0.21, n["strewn"], n["strewn_density"], seed + 11)
    _over(picture, d["strewn_colour"], cover(strewn) * cover(ground + 0.04))
    # Two plants (trees, cactuses, ...), behind the creature at the picture's sides.
    for side, slot in ((-1.0, 2), (1.0, 5)):
        px = side * (0.62 + 0.3 * jitter[slot])
        base = n["horizon"] + 0.10
        size = (n["plant"] * (0.85 + 0.3 * jitter[slot + 1])).clamp_min(0.01)
        trunk = _segment(x, y, px, base, px, base - size, 0.05 * size / 0.6, 0.045 * size / 0.6)
        _over(picture, d["trunk_colour"], cover(trunk) * (n["plant"] > 0))
        crown = _segment(x, y, px, base - 0.45 * size, px, base - 1.1 * size, n["crown_low"] * size, n["crown_top"] * size)
        _over(picture, d["crown_colour"], cover(crown) * (n["plant"] > 0))
    return picture


def _own(pose, x, y):
    """A creature's own coordinates, in scales: upright dx, dy, and u, v that turn and mirror with it."""
    cx, cy, scale, mirror, _, tilt, *_ = pose
    dx, dy = (x - cx) / scale, (y - cy) / scale
    cos, sin = torch.cos(tilt), torch.sin(tilt)
    return dx, dy, (dx * cos + dy * sin) * mirror, dy * cos - dx * sin


def _constant(hexadecimal: str, picture):
    """A colour for every drawing [N, 3]."""
    return torch.tensor(rgb(hexadecimal), device=picture.device).expand(len(picture), 3)


def _creature(picture, genome, accessory, pose, x, y, pixel):
    device = x.device
    shape, main, second, pattern, ears, eyes, tail, feet, wings, mouth = genome.unbind(1)
    _, _, scale, mirror, turn, _, lift, behind = pose
    dx, dy, u, v = _own(pose, x, y)
    grain = pixel / scale
    cover = lambda dist: (0.5 - dist / grain).clamp_(0, 1)  # noqa: E731
    table = ground_table(device)
    main_colour, second_colour = table[main], table[second]
    line_colour = main_colour * DARKEN
    au = u.abs()

    rows = [[*c, *b, k, *e, *a, m] for c, b, k, e, a, m in BODIES]
    y0, r0, y1, r1, by, bw, bh, br, k, eye_y, eye_gap, eye_r, ear_x, ear_y, mouth_y = _col(rows, shape, device)
    is_long = feet[:, None, None].float()

    # Shadow on the ground under the feet.
    foot_y = SHADOW_Y + 0.26 * is_long
    shadow = (torch.hypot(dx / (1.15 - 0.4 * lift), (dy - foot_y - 0.02 - lift) / 0.2) - 1) * 0.2
    _over(picture, torch.zeros_like(main_colour), (0.5 - shadow / 0.12).clamp_(0, 1) * 0.3)

    root, tip = _tail(tail, u, v)
    wing = _wings(wings, au, v)
    # Feet: a pair of soles, with legs when long.
    sole_y = 0.93 + 0.26 * is_long
    soles = (torch.hypot((au - 0.40) / 0.30, (v - sole_y) / 0.16) - 1) * 0.16
    legs = _segment(au, v, 0.36, 0.70, 0.38, sole_y, 0.13, 0.13)
    feet_d = torch.minimum(soles, legs)
    # Ears, horns or antennae: a capsule each side (or one in the middle), bent, with an optional ball.
    ear_rows = [[*d, ra, rb, ball, bend, mid, inner] for (d, ra, rb, ball, bend, mid), inner in zip(EARS, _INNER_EAR)]
    edx, edy, ra, rb, ball, bend, mid, inner = _col(ear_rows, ears, device)
    crown = torch.minimum(torch.minimum(y0 - r0, y1 - r1), torch.where(br > 0, by - bh, torch.full_like(by, 9.0)))
    shift = 0.12 * turn
    ex = torch.where(mid > 0, torch.zeros_like(ear_x), ear_x)
    ey = torch.where(mid > 0, crown + 0.14, ear_y)
    eu = torch.where(mid > 0, u - shift, (u - shift).abs())
    along = ((ey - v) / -edy).clamp(0, 1)
    eu = eu - bend * along * (1 - along) * 1.6
    ear = _segment(eu, v, ex, ey, ex + edx, ey + edy, ra, rb)
    ball_d = _disk(eu, v, ex + edx, ey + edy, ball)
    ear_all = torch.minimum(ear, ball_d)
    inner_ear = torch.where(inner > 1, ear_all, ear + (1 - inner) * ra)
    # Body.
    capsule = _segment(u, v, torch.zeros_like(y0), y0, torch.zeros_like(y0), y1, r0, r1)
    body = _smooth_union(capsule, _box(u, v - by, bw, bh, br), k)

    # Behind the body: one outline for all, then fills.
    _over(picture, line_colour, cover(wing - OUTLINE))
    wing_colour = second_colour.lerp(torch.ones_like(second_colour), 0.35 * (wings == 1).float()[:, None])
    _over(picture, wing_colour * 0.95, cover(wing))
    limbs = torch.minimum(torch.minimum(root, tip), torch.minimum(feet_d, ear_all))
    _over(picture, line_colour, cover(torch.minimum(limbs, body) - OUTLINE))
    _over(picture, main_colour * 0.86, cover(torch.minimum(root, torch.minimum(feet_d, ear_all))))
    _over(picture, second_colour, cover(torch.minimum(tip, inner_ear)))
    _over(picture, second_colour * 0.92, cover(soles))
    _over(picture, line_colour, cover((body - OUTLINE * 0.35).abs() - OUTLINE * 0.65))

    # Body fill: main colour, the pattern in the second colour, light from the upper left, shade at the lower rim.
    # A belly and the star on it are not on the back.
    marks = _pattern(torch.where((behind[:, 0, 0] > 0) & ((pattern == 3) | (pattern == 5)), torch.zeros_like(pattern), pattern), u, v, au)
    light = 1.06 - 0.16 * ((dx * 0.5 + dy) * 0.7).clamp(-1, 1) - 0.22 * (1 + body / 0.28).clamp(0, 1).square()
    fill = torch.lerp(main_colour[:, :, None, None], second_colour[:, :, None, None], cover(marks)[:, None]) * light[:, None]
    picture.lerp_(fill, cover(body)[:, None].expand_as(picture))
    sheen = (torch.hypot((dx + 0.36) / 0.30, (dy - crown - 0.36) / 0.17) - 1) * 0.17
    _over(picture, torch.ones_like(main_colour), cover(sheen) * cover(body + 0.1) * 0.28)
    inside = cover(body)
    front = 1 - behind
    _scarf(picture, accessory, u, v - mouth_y - 0.34, inside, cover)

    # Face: cheeks, eyes (one, two or three), smile.
    fx = u - 0.34 * turn
    narrow = 1 - 0.25 * turn.abs()
    afx = fx.abs()
    one = (eyes == 0)[:, None, None].float()
    three = (eyes == 2)[:, None, None].float()
    radius = eye_r * (1 + 0.45 * one - 0.14 * three)
    pair_gap = torch.where(one > 0, torch.zeros_like(eye_gap), eye_gap * (1 + 0.12 * three)) * narrow
    pair = _disk(afx, v, pair_gap, eye_y, radius)
    top_y = torch.where(three > 0, eye_y - 1.25 * radius, torch.full_like(eye_y, 99.0))
    eye = torch.minimum(pair, _disk(fx, v, torch.zeros_like(top_y), top_y, radius))
    cheeks = (torch.hypot((afx - 0.50 * narrow * (bw.clamp(0.55, 0.9))) / 1.3, v - mouth_y + 0.08) - 0.11)
    blush = torch.tensor([1.0, 0.45, 0.5], device=device).expand_as(main_colour)
    _over(picture, blush, cover(cheeks) * inside * front * 0.55)
    white = torch.ones_like(main_colour)
    ink = torch.full_like(main_colour, 0.07)
    _over(picture, line_colour, cover(eye - 0.05) * front)
    _over(picture, white, cover(eye) * front)
    side = torch.sign(fx)
    gaze_x, gaze_y = 0.05 * (turn + 0.2), 0.03
    pupil = torch.minimum(
        _disk(fx - side * pair_gap - gaze_x, v - eye_y - gaze_y, 0.0, 0.0, radius * 0.58),
        _disk(fx - gaze_x, v - top_y - gaze_y, 0.0, 0.0, radius * 0.58),
    )
    _over(picture, ink, cover(pupil) * front)
    # Highlights stay at the upper left of each eye, whatever the mirroring.
    glint_x = -mirror * radius * 0.22
    glint = torch.minimum(
        _disk(fx - side * pair_gap - gaze_x, v - eye_y, glint_x, -radius * 0.22, radius * 0.24),
        _disk(fx - gaze_x, v - top_y, glint_x, -radius * 0.22, radius * 0.24),
    )
    _over(picture, white, cover(glint) * front)
    _mouth(picture, mouth, fx, v - mouth_y, line_colour, front, cover)


def _tail(tail, u, v):
    """Distances to the root, in the main colour, and to the tip, in the second."""
    kind = tail[:, None, None]
    pointy = (kind == 1).float()
    root = _segment(u, v, 0.55, 0.45, 1.05 + 0.02 * pointy, 0.32 + 0.06 * pointy, 0.13 + 0.05 * pointy, 0.10 + 0.02 * pointy)
    ball = _segment(u, v, 1.16 - 0.10 * pointy, 0.20 + 0.18 * pointy, 1.20 + 0.20 * pointy, 0.16 - 0.56 * pointy,
                    0.32 - 0.20 * pointy, 0.32 - 0.31 * pointy)
    curl = (torch.hypot(u - 1.27, v - 0.06) - 0.27).abs() - 0.10
    jagged = torch.full_like(u, 9.0)
    zero = torch.zeros_like(kind, dtype=u.dtype)
    for ax, ay, bx, by, ra, rb in ((1.02, 0.34, 1.46, 0.28, 0.08, 0.10), (1.46, 0.28, 1.12, -0.06, 0.10, 0.12), (1.12, -0.06, 1.58, -0.22, 0.12, 0.15)):
        jagged = torch.minimum(jagged, _segment(u, v, ax + zero, ay + zero, bx + zero, by + zero, ra, rb))
    tip = torch.where(kind == 2, curl, torch.where(kind == 3, jagged, ball))
    return root, tip


def _wings(wings, au, v):
    """Distance to the wings of each drawing, in scales."""
    kind = wings[:, None, None]
    zero = torch.zeros_like(kind, dtype=au.dtype)
    feathered = torch.full_like(au, 9.0)
    for bx, by, r in ((1.30, -0.66, 0.17), (1.42, -0.34, 0.16), (1.30, -0.05, 0.14)):
        feathered = torch.minimum(feathered, _segment(au, v, 0.45 + zero, 0.0 + zero, bx + zero, by + zero, 0.13, r))
    # A membrane between a raised finger and the body, two bites out of its lower edge.
    finger = _segment(au, v, 0.45 + zero, 0.05 + zero, 1.45 + zero, -0.85 + zero, 0.10, 0.03)
    above = -(0.669 * (au - 0.45) + 0.743 * (v - 0.05))  # signed distance from the finger's line, positive above it
    edge = au - 1.42 + 0.12 * (v + 0.8)
    membrane = torch.maximum(torch.maximum(above, edge), v - 0.12)
    bites = torch.minimum(torch.hypot(au - 0.90, v - 0.22) - 0.24, torch.hypot(au - 1.32, v - 0.20) - 0.20)
    leathery = torch.minimum(finger, torch.maximum(membrane, -bites))
    none = torch.full_like(au, 9.0)
    return torch.where(kind == 1, feathered, torch.where(kind == 2, leathery, none))


def _mouth(picture, mouth, x, y, line_colour, front, cover):
    """Smile, fangs, beak or tongue about the mouth's point, in scales."""
    kind = mouth[:, None, None]
    x, y = x / MOUTH_SIZE, y / MOUTH_SIZE
    lay = lambda colour, d, values: _over(  # noqa: E731
        picture, colour, cover(d * MOUTH_SIZE) * front * torch.stack([kind == v for v in values]).any(0)
    )
    arc = torch.maximum((torch.hypot(x, y + 0.10) - 0.17).abs() - 0.038, -y)
    lay(_constant("ff7a96", picture), torch.hypot(x / 0.8, y - 0.15) - 0.12, (3,))
    lay(line_colour, arc, (0, 3))
    jaw = torch.maximum(torch.hypot(x / 1.5, y + 0.06) - 0.21, -(y + 0.04))
    lay(line_colour, jaw, (1,))
    tooth = torch.maximum((x.abs() - 0.15).abs() * 0.9 + (y + 0.04) * 0.45 - 0.075, -(y + 0.04))
    lay(_constant("ffffff", picture), tooth, (1,))
    beak = 0.82 * (x.abs() * 0.75 + (y - 0.04).abs()) - 0.17
    lay(_constant("6b3510", picture), beak - 0.05, (2,))
    lay(_constant("ffb020", picture), beak, (2,))
    lay(_constant("6b3510", picture), torch.maximum((y - 0.05).abs() - 0.018, beak), (2,))


def _scarf(picture, accessory, u, v, inside, cover):
    """A striped band around the body below the mouth, and its end hanging down."""
    worn = (accessory == SCARF)[:, None, None] * inside
    red, white = (_constant(c, picture) for c in _SCARF_COLOURS)
    sag = v - 0.06 * (1 - u * u)
    band = torch.minimum(sag.abs() - 0.13, _box(u - 0.34, v - 0.28, 0.13, 0.30, 0.04))
    stripes = torch.maximum(band + 0.02, (((u - 0.6 * v) / 0.30).frac().abs() - 0.5).abs() * 0.30 - 0.05)
    _over(picture, red * 0.5, cover(band - 0.05) * worn)
    _over(picture, red, cover(band) * worn)
    _over(picture, white, cover(stripes) * worn)


def _accessory_behind(picture, accessory, pose, x, y, pixel):
    """A balloon beside the creature or a gift at its feet, on the side of the picture's middle."""
    if not ((accessory == BALLOON) | (accessory == GIFT)).any():
        return
    cx, cy, scale, mirror, _, _, lift, _ = pose
    # In the middle of the picture: on the side without a tail.
    side = torch.where(cx.abs() > 0.2, -torch.sign(cx), -mirror)
    dx, dy = (x - cx) / scale * side, (y - cy) / scale
    cover = lambda d: (0.5 - d * scale / pixel).clamp_(0, 1)  # noqa: E731
    has = (accessory == BALLOON)[:, None, None]
    zero = torch.zeros_like(cx)
    string = _segment(dx, dy, 1.05 + zero, 0.35 + zero, 1.25 + zero, -0.55 + zero, 0.025, 0.025)
    balloon = torch.hypot((dx - 1.27) / 0.88, dy + 0.95) - 0.40
    knot = _segment(dx, dy, 1.26 + zero, -0.58 + zero, 1.26 + zero, -0.48 + zero, 0.02, 0.09)
    red = _constant(_BALLOON_COLOUR, picture)
    _over(picture, red * 0.25, cover(string) * has)
    _over(picture, red * 0.35, cover(torch.minimum(balloon, knot) - OUTLINE) * has)
    _over(picture, red, cover(torch.minimum(balloon, knot)) * has)
    glint = torch.hypot((dx * side - 1.27 * side + 0.13) / 0.7, dy + 1.10) - 0.10
    _over(picture, torch.ones_like(red), cover(glint) * has * 0.7)
    has = (accessory == GIFT)[:, None, None]
    box_y = dy - lift - 0.72  # on the ground even under a jump
    paper, ribbon = (_constant(c, picture) for c in _GIFT_COLOURS)
    box = _box(dx - 1.30, box_y, 0.36, 0.34, 0.05)
    lid = _box(dx - 1.30, box_y + 0.26, 0.42, 0.11, 0.04)
    bow = torch.hypot((dx - 1.30).abs() - 0.15, (box_y + 0.48) * 1.3) - 0.13
    whole = torch.minimum(torch.minimum(box, lid), bow)
    _over(picture, paper * 0.3, cover(whole - OUTLINE) * has)
    _over(picture, paper, cover(torch.minimum(box, lid)) * has)
    _over(picture, ribbon, cover(torch.minimum(bow, torch.maximum(torch.minimum(box, lid), (dx - 1.30).abs() - 0.09))) * has)


def _bush(picture, background, bush, pose, x, y, pixel):
    """Leaves in front of the creature's lower half."""
    dx, dy, _, _ = _own(pose, x, y)
    grain = pixel / pose[2]
    leaf = DECOR["bush_colour"].to(x.device)[background]
    lobe = (dx / 0.52 + 0.5).floor().clamp(-3, 3)
    top = BUSH_TOP + 0.36 + 0.08 * torch.sin(lobe * 2.4)
    lobes = torch.minimum(torch.hypot(dx - lobe * 0.52, dy - top) - 0.36, _box(dx, dy - 1.16, 1.85, 0.34, 0.24))
    cover = lambda d: (0.5 - d / grain).clamp_(0, 1) * bush  # noqa: E731
    _over(picture, leaf * 0.45, cover(lobes - OUTLINE))
    _over(picture, leaf, cover(lobes))
    _over(picture, leaf * 1.2, cover(torch.hypot(dx - lobe * 0.52 + 0.08, dy - top + 0.06) - 0.16) * 0.8)


def _rain(picture, weather, jitter, x, y, pixel):
    """Slanted streaks in front of everything, and less light."""
    wet = (weather == RAIN)[:, None, None].float()
    picture.mul_(1 - 0.14 * wet[:, None])
    sx, sy = (x + 0.25 * y) / 0.15, (y + 3 * jitter[7]) / 0.36
    column = sx.floor()
    sy = sy + _hash(column, torch.zeros_like(column), 5.3)
    row = sy.floor()
    there = _hash(column, row, 9.1) < 0.75
    d = torch.hypot((sx - column - 0.5) * 0.15, ((sy - row - 0.5).abs() * 0.36 - 0.09).clamp_min(0)) - 0.016
    streaks = (0.5 - d / pixel).clamp(0, 1) * there * wet
    _over(picture, _constant("d8ecff", picture), streaks * 0.75)


def _pattern(pattern, u, v, au):
    """Distance to the marks of each drawing's pattern, in scales."""
    far = torch.full_like(u, 9.0)
    row = (v / 0.42).floor()
    su = u / 0.48 + 0.5 * (row - 2 * (row / 2).floor())
    spots = torch.hypot((su - su.floor() - 0.5) * 0.48, v - (row + 0.5) * 0.42) - 0.135
    band = v / 0.40 + 0.15
    stripes = ((band - band.floor() - 0.5).abs() - 0.26) * 0.40
    belly = (torch.hypot(u / 0.56, (v - 0.52) / 0.50) - 1) * 0.5
    dipped = 0.36 + 0.07 * torch.cos(9 * u) - v
    # A five-pointed star on the belly, by folding the plane (after Quilez).
    sx, sy = au, -(v - 0.56)
    for kx, ky in ((0.809017, -0.587785), (-0.809017, -0.587785)):
        fold = 2 * (kx * sx + ky * sy).clamp_min(0)
        sx, sy = sx - fold * kx, sy - fold * ky
    sx, sy = sx.abs(), sy - 0.46
    bax, bay = 0.45 * 0.587785, 0.45 * 0.809017 - 1
    h = ((sx * bax + sy * bay) / (bax * bax + bay * bay)).clamp(0, 0.46)
    star = torch.hypot(sx - bax * h, sy - bay * h) * torch.sign(sy * bax - sx * bay)
    kind = pattern[:, None, None]
    marks = far
    for value, distance in ((1, spots), (2, stripes), (3, belly), (4, dipped), (5, star)):
        marks = torch.where(kind == value, distance, marks)
    return marks
