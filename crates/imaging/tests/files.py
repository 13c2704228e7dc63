"""The files of files.rs: what cameras, editors and phones write.

pip install pillow==13.0.0 numpy; python files.py writes them into files/.
"""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

FOLDER = Path(__file__).parent / "files"


def upright():
    """24 x 16, a colour in each quarter."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:] = (220, 40, 40), (40, 200, 60)
    pixels[8:, :12], pixels[8:, 12:] = (40, 60, 220), (230, 220, 50)
    return Image.fromarray(pixels)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


# What undoes each orientation is what a viewer does; its inverse is how the sensor saw it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def number(value):
    return struct.pack(">i", round(value * 65536))


def profile(colours, gamma):
    """An ICC profile, version 2 (ICC.1:2001-04): a matrix and a gamma, or a gamma alone."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    place = lambda xyz: b"XYZ \0\0\0\0" + b"".join(map(number, xyz))
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0none\0\0\0\0"), (b"wtpt", place((0.9642, 1.0, 0.8249)))]
    if colours:
        tags += [(name, place(xyz)) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours)]
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    else:
        tags.append((b"kTRC", curve))
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"none", 0x02100000, b"mntr", b"RGB " if colours else b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(number, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


# Adobe RGB (1998), adapted to D50, and a gray of gamma 1.8.
ADOBE = profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 563 / 256)
GRAY = profile(None, 1.8)


def converted(picture, icc):
    """What LittleCMS makes of it."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")


def main():
    FOLDER.mkdir(exist_ok=True)
    save = lambda picture, name, **options: picture.save(FOLDER / name, **options)
    save(upright(), "upright.png")
    for orientation, how in STORED.items():
        stored = upright() if how is None else upright().transpose(how)
        save(stored, f"orientation-{orientation}.jpg", exif=exif(orientation), quality=95, subsampling=0)
    sixth = upright().transpose(STORED[6])
    save(sixth, "orientation-6.png", exif=exif(6))
    save(sixth, "orientation-6.webp", exif=exif(6), lossless=True)

    y, x = np.mgrid[:24, :32]
    photo = np.stack([(x * 8) % 256, (y * 10) % 256, (x * y * 3) % 256], -1).astype(np.uint8)
    photo = Image.fromarray(photo)
    for name, icc in (("adobe-rgb.png", ADOBE), ("adobe-rgb.webp", ADOBE)):
        save(photo, name, icc_profile=icc, lossless=True)
    save(photo, "adobe-rgb.jpg", icc_profile=ADOBE, quality=100, subsampling=0)
    save(converted(photo, ADOBE), "adobe-rgb-expected.png")
    gray = photo.convert("L")
    save(gray, "gray.png", icc_profile=GRAY)
    save(gray, "gray.jpg", icc_profile=GRAY, quality=100)
    save(converted(gray, GRAY), "gray-expected.png")
    save(photo, "srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    save(photo, "plain.png")
    cmyk = photo.convert("CMYK")
    save(cmyk, "cmyk.jpg", quality=100)
    save(cmyk, "cmyk-with-profile.jpg", quality=100, icc_profile=ADOBE[:16] + b"CMYK" + ADOBE[20:])

    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    save(noise, "baseline.jpg", quality=90)
    save(noise, "progressive.jpg", quality=90, progressive=True)
    save(noise, "restarts.jpg", quality=90, restart_marker_blocks=2)
    save(noise, "lossy.webp", quality=90)
    save(noise, "lossless.webp", lossless=True)
    save(noise, "plain-noise.png")
    save(noise.convert("P", palette=Image.Palette.ADAPTIVE), "palette.png")
    alpha = noise.copy()
    alpha.putalpha(Image.fromarray((x[:1].repeat(48, 0).repeat(2, 1) * 8 % 256).astype(np.uint8)))
    save(alpha, "alpha.png")
    save(alpha, "alpha.webp", quality=90)
    save(alpha, "alpha-lossless.webp", lossless=True, exact=True)
    wide = np.asarray(noise.convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(FOLDER / "gray-16.png")


main()
