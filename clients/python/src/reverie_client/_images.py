"""Images, as they are sent and as they come."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from reverie.tensor.v1 import tensor_pb2 as tensor

#: An image to send: encoded bytes, a file, or pixels, which are sent as PNG.
ImageLike = bytes | bytearray | memoryview | str | PathLike[str] | BinaryIO | Image.Image

#: Kinds of pixels that PNG has.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
#: Kinds of pixels that have one number of 16 or more bits.
_INTEGER_MODES = ("I", "I;16L", "I;16B", "I;16N")


def encode(image: ImageLike) -> tensor.Image:
    """Return the message for an image.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is nothing that can be sent.
        ValueError: pixels that have no range.

    """
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        # Turned as its EXIF orientation says, since PNG would lose that.
        _for_png(ImageOps.exif_transpose(image)).save(buffer, "PNG")
        return tensor.Image(data=buffer.getvalue())
    if isinstance(image, (bytes, bytearray, memoryview)):
        return tensor.Image(data=bytes(image))
    if isinstance(image, (str, PathLike)):
        return tensor.Image(data=Path(image).read_bytes())
    data = image.read() if hasattr(image, "read") else None
    if not isinstance(data, bytes):
        raise TypeError(
            f"an image is bytes, a path, a file opened for reading bytes, or a PIL image, not {type(image).__name__}"
        )
    return tensor.Image(data=data)


def decode(data: bytes) -> Image.Image:
    """Return the image in ``data``, which is PNG, JPEG or WebP, with its pixels loaded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _for_png(image: Image.Image) -> Image.Image:
    """Return the same pixels in a kind that PNG has."""
    if image.mode in _PNG_MODES:
        return image
    if image.mode == "F":
        raise ValueError("pixels that are floating-point numbers have no range: convert them to L or RGB")
    if image.mode in _INTEGER_MODES:
        integers = image.convert("I")
        extrema = integers.getextrema()
        if not all(isinstance(it, (int, float)) and 0 <= it <= 0xFFFF for it in extrema):
            raise ValueError(f"pixels must be 0 to 65535 to be sent in 16 bits (they are {extrema})")
        return integers.convert("I;16")
    if image.mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    converted = image.convert("RGB")
    # It is of the colours that the image had, such as those of inks.
    converted.info.pop("icc_profile", None)
    return converted
