"""Colours of creatures and the decor of backgrounds, as tensors indexed like the world's word lists."""

from functools import lru_cache

import torch

from .world import BACKGROUNDS

COLOUR_TABLE = {
    "red": "e03a36", "orange": "f58a2c", "yellow": "fbd93b", "green": "5fbf4a", "teal": "1fa79a", "blue": "3f74e0",
    "purple": "8a4fc4", "pink": "f792bd", "brown": "8a5a36", "white": "f6f4ee", "grey": "98a0a8", "black": "3a3a44",
}


def rgb(hexadecimal: str) -> list[float]:
    """`rrggbb` -> three numbers in 0..1."""
    return [int(hexadecimal[i : i + 2], 16) / 255 for i in (0, 2, 4)]


@lru_cache(maxsize=4)
def ground_table(device) -> torch.Tensor:
    """Creature colours f32 [12, 3] in 0..1."""
    return torch.tensor([rgb(c) for c in COLOUR_TABLE.values()], device=device)


# What a background may have; lengths in picture units. A size of -9 (or a height of 0) leaves the thing out.
_NOTHING = dict(
    sky_top="88c8f0", sky_low="d8effa", horizon=0.22, sun=-9.0, sun_y=-0.7, sun_colour="fff2b0",
    flake_cell=0.4, flake=-9.0, flake_density=0.0, flake_stretch=1.0, flake_colour="ffffff",
    hill=0.0, hill_frequency=0.6, hill_sharp=0.0, hill_colour="7fb070", roof=0.0, roof_colour="2c2530",
    ground_far="8ccf6a", ground_near="5cab48", ripple=0.0, ripple_frequency=30.0,
    strewn=-9.0, strewn_density=0.0, strewn_colour="ffffff",
    plant=0.0, crown_low=0.0, crown_top=0.0, trunk_colour="6b4a2f", crown_colour="3c8a3e",
    bush_colour="4fa04a",
)
_BACKGROUNDS = {
    "meadow": dict(sun=0.13, flake=0.13, flake_cell=0.55, flake_density=0.35, flake_stretch=1.8, hill=0.16,
                   hill_colour="a4d884", strewn=0.035, strewn_density=0.5, strewn_colour="fff3a8"),
    "desert": dict(sky_top="f9d58a", sky_low="fdeec2", sun=0.16, sun_y=-0.72, sun_colour="fffbe0", hill=0.22, hill_frequency=0.5,
                   hill_colour="e2ae62", ground_far="edc47c", ground_near="d9a04e", ripple=0.025, ripple_frequency=22.0,
                   plant=0.55, crown_low=0.10, crown_top=0.10, trunk_colour="4f8f56", crown_colour="4f8f56"),
    "snow": dict(sky_top="a9bfd4", sky_low="dde8f2", flake=0.03, flake_cell=0.19, flake_density=0.7, hill=0.34, hill_frequency=0.8,
                 hill_sharp=1.0, hill_colour="c2d4e4", ground_far="eef5fb", ground_near="ffffff",
                 plant=0.62, crown_low=0.30, crown_top=0.01, crown_colour="6f9c92"),
    "night": dict(sky_top="0e1436", sky_low="2a3a78", sun=0.14, sun_y=-0.70, sun_colour="f6f0cf", flake=0.018, flake_cell=0.21,
                  flake_density=0.6, hill=0.16, hill_colour="1c2a5c", ground_far="23456a", ground_near="173050"),
    "sea": dict(sky_top="6fd0ee", sky_low="dcf6f6", horizon=0.05, sun=0.12, sun_y=-0.72, flake=0.12, flake_cell=0.6,
                flake_density=0.3, flake_stretch=2.2, ground_far="1f8fc4", ground_near="0d5f9c", ripple=0.07, ripple_frequency=26.0),
    "sunset": dict(sky_top="5a3a8c", sky_low="ff9a5a", sun=0.27, sun_y=0.02, sun_colour="ffe27a", hill=0.12, hill_colour="a0456c",
                   ground_far="8c3a66", ground_near="5a2450"),
    "forest": dict(sky_top="9cc89a", sky_low="d4e8b8", hill=0.36, hill_frequency=2.2, hill_sharp=1.0, hill_colour="4f9060",
                   ground_far="5b8a44", ground_near="3b6430", plant=0.85, crown_low=0.36, crown_top=0.02, crown_colour="256b3c"),
    "cave": dict(sky_top="4a3f52", sky_low="6b5c70", roof=0.42, ground_far="57495c", ground_near="3d3344", strewn=0.04,
                 strewn_density=0.45, strewn_colour="59d8d0", flake=0.022, flake_cell=0.3, flake_density=0.3, flake_colour="7fe8e0"),
    "volcano": dict(sky_top="3a1a22", sky_low="c8452c", hill=0.50, hill_frequency=0.45, hill_sharp=1.0, hill_colour="4a2a30",
                    ground_far="5c2a28", ground_near="341a1e", strewn=0.045, strewn_density=0.55, strewn_colour="ff9430",
                    flake=0.02, flake_cell=0.25, flake_density=0.4, flake_colour="ffb050"),
    "blossom": dict(sky_top="f7c6dc", sky_low="fdeef4", flake=0.028, flake_cell=0.22, flake_density=0.5, flake_colour="f58ab8",
                    hill=0.16, hill_colour="e8b4d4", ground_far="b8dca0", ground_near="8cc47c", strewn=0.035, strewn_density=0.6,
                    strewn_colour="ffb4d4", plant=0.75, crown_low=0.30, crown_top=0.24, crown_colour="f590bc"),
}


def _decor() -> dict[str, torch.Tensor]:
    rows = [{**_NOTHING, **_BACKGROUNDS[name]} for name in BACKGROUNDS]
    return {
        key: torch.tensor([rgb(r[key]) if isinstance(value, str) else r[key] for r in rows])
        for key, value in _NOTHING.items()
    }


# Decor by key: colours f32 [backgrounds, 3], numbers f32 [backgrounds].
DECOR = _decor()
