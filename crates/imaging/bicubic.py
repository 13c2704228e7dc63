"""The levels that Pillow gives where bicubic.rs is tested.

pip install pillow==13.0.0 numpy; python bicubic.py prints the cases of `PILLOW`.
"""

import numpy as np
from PIL import Image

CASES = [
    ((6, 5), (3, 2)),
    ((6, 5), (4, 7)),
    ((33, 71), (4, 9)),  # taller than twice its width: columns first
    ((33, 66), (4, 8)),  # not taller: rows first
    ((33, 65), (4, 7)),
    ((7, 40), (5, 12)),
    ((40, 7), (12, 5)),
    ((9, 30), (11, 6)),  # wider and lower
    ((30, 9), (6, 11)),
    ((5, 12), (8, 3)),
    ((4, 9), (6, 13)),  # larger: rows first, however tall
    ((50, 20), (6, 4)),
]

for (width, height), size in CASES:
    y, x = np.mgrid[:height, :width]
    picture = Image.fromarray(((7 * x + 31 * y + x * y) % 256).astype(np.uint8)).convert("RGB")
    levels = np.asarray(picture.resize(size, Image.BICUBIC))[:, :, 0].ravel().tolist()
    print(f"        (({width}, {height}), {size}, &{levels}),")
