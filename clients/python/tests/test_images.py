from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from reverie.generation.v1 import generation_service_pb2 as generation
from reverie_client import Drawing, Progress
from reverie_client._images import decode, encode


def sent(image: Image.Image) -> Image.Image:
    return decode(encode(image).data)


def test_pixels_are_sent_as_they_are() -> None:
    colours = Image.new("RGBA", (2, 1))
    colours.putdata([(200, 30, 10, 255), (0, 10, 250, 128)])
    for mode in ("RGBA", "RGB", "L", "LA", "1"):
        image = colours.convert(mode)
        assert sent(image).convert("RGBA").tobytes() == image.convert("RGBA").tobytes(), mode
    premultiplied = sent(colours.convert("RGBa"))
    assert premultiplied.mode == "RGBA"
    assert premultiplied.getpixel((0, 0)) == (200, 30, 10, 255)
    assert sent(colours.convert("RGB").convert("CMYK")).getpixel((0, 0)) == (200, 30, 10)
    inks = colours.convert("RGB").convert("CMYK")
    inks.info["icc_profile"] = b"a profile of inks"
    assert "icc_profile" not in sent(inks).info
    palette = colours.convert("RGB").convert("P")
    assert sent(palette).convert("RGB").tobytes() == palette.convert("RGB").tobytes()


def test_pixels_of_16_bits_keep_them() -> None:
    wide = Image.new("I", (2, 1))
    wide.putdata([0x1234, 0xFFFF])
    for mode in ("I", "I;16", "I;16B"):
        image = (
            wide.convert(mode) if mode != "I;16B" else Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xff")
        )
        came = sent(image)
        assert came.mode == "I;16", mode
        assert [came.getpixel((x, 0)) for x in range(2)] == [0x1234, 0xFFFF], mode


def test_pixels_without_a_range_are_refused() -> None:
    with pytest.raises(ValueError, match="no range"):
        encode(Image.new("F", (1, 1)))
    for value in (-1, 0x10000):
        with pytest.raises(ValueError, match="65535"):
            encode(Image.new("I", (1, 1), value))


def test_a_photo_is_turned_as_it_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (4, 2)).save(tmp_path / "photo.jpeg", exif=exif)
    with Image.open(tmp_path / "photo.jpeg") as photo:
        assert sent(photo).size == (2, 4)


def test_bytes_come_from_wherever_they_are(tmp_path: Path) -> None:
    data = b"encoded"
    file = tmp_path / "image"
    file.write_bytes(data)
    for image in (data, bytearray(data), memoryview(data), file, str(file), io.BytesIO(data)):
        assert encode(image).data == data
    with file.open("rb") as opened:
        assert encode(opened).data == data
    for wrong in (7, None, io.StringIO("text"), [data]):
        with pytest.raises(TypeError, match="PIL image"):
            encode(wrong)  # type: ignore[arg-type]


def test_a_stage_that_is_newer_than_the_client_is_no_failure() -> None:
    progress = generation.Progress()
    progress.MergeFromString(b"\x08\x63")
    assert Progress.of(progress).stage == "unknown"
    known = generation.Progress(stage=generation.Stage.STAGE_BASE, step=1, steps=4)
    assert Progress.of(known).stage == "base"


def test_what_was_drawn_is_short_to_read() -> None:
    drawing = Drawing(Image.new("RGB", (1, 1)), b"x" * 1000, 0, 7, False)
    assert len(repr(drawing)) < 200
