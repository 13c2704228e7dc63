"""Pictures side by side in one PNG."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    """f32 [N, 3, H, W] in [-1, 1] -> u8 [N, H, W, 3]."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def save_sheet(pictures: torch.Tensor, columns: int, path: Path, zoom: int = 1) -> None:
    """Row by row, `columns` a row."""
    n, h, w, _ = (tiles := to_bytes(pictures)).shape
    sheet = tiles.reshape(n // columns, columns, h, w, 3).transpose(0, 2, 1, 3, 4).reshape(n // columns * h, columns * w, 3)
    image = Image.fromarray(sheet)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path)
