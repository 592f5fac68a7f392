"""Golden tensors: what every kind of picture becomes, to the bit, as reviewable text.

``pytest tests/golden --regenerate-golden`` rewrites the file; the difference is to be reviewed. All
pictures are generated. Photographs (JPEG) depend on the arithmetic of libjpeg-turbo, which is the
same on every processor; everything else is lossless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeml.tasks.image import ImagePreprocessing
from tests.pictures import (
    alpha,
    encode,
    exif_block,
    grey,
    grey16,
    oriented,
    rgb_file,
    scene,
    with_exif,
)

GOLDEN = Path(__file__).with_name("image_tensors.json")
SMALL = ImagePreprocessing(height=4, width=4)


@dataclass(frozen=True, kw_only=True)
class PictureCase:
    """One picture and how it is prepared."""

    id: str
    make: Callable[[], Any]
    preprocessing: ImagePreprocessing = SMALL


def _paletted(kind: str, **options: Any) -> bytes:
    image = Image.frombytes("P", (16, 12), (grey() // 32).tobytes())
    image.putpalette(
        [17 * (index + 3) * (channel + 1) % 256 for index in range(8) for channel in range(3)]
    )
    return encode(image, kind, **options)


def _cmyk(kind: str, **options: Any) -> bytes:
    ink = np.dstack([scene(), grey() // 4])
    return encode(Image.frombytes("CMYK", (16, 12), ink.tobytes()), kind, **options)


def _mpo() -> bytes:
    frames = [Image.fromarray(scene()), Image.new("RGB", (16, 12))]
    return encode(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=90)


CASES = (
    PictureCase(id="array", make=scene),
    PictureCase(id="array-grey", make=grey),
    PictureCase(id="png", make=rgb_file),
    PictureCase(id="bmp", make=lambda: rgb_file("BMP")),
    PictureCase(id="tiff", make=lambda: rgb_file("TIFF")),
    PictureCase(id="webp-lossless", make=lambda: rgb_file("WEBP", lossless=True)),
    PictureCase(id="gif", make=lambda: _paletted("GIF")),
    PictureCase(id="jpeg", make=lambda: rgb_file("JPEG", quality=90)),
    PictureCase(id="jpeg-grey", make=lambda: encode(Image.fromarray(grey()), "JPEG", quality=90)),
    PictureCase(id="mpo", make=_mpo),
    *(
        PictureCase(id=f"png-orientation-{number}", make=lambda number=number: oriented(number))
        for number in range(1, 9)
    ),
    *(
        PictureCase(
            id=f"jpeg-orientation-{number}",
            make=lambda number=number: oriented(number, "JPEG", quality=90),
        )
        for number in range(1, 9)
    ),
    PictureCase(id="exif-unreadable", make=lambda: with_exif(b"no TIFF header", "PNG")),
    PictureCase(
        id="exif-odd-tag",
        make=lambda: with_exif(
            exif_block((0x0112, 3, 1, b"\x06\0\0\0"), (0x8825, 9, 1, b"\xff" * 4)), "PNG"
        ),
    ),
    PictureCase(
        id="rgba", make=lambda: encode(Image.fromarray(np.dstack([scene(), alpha()])), "PNG")
    ),
    PictureCase(id="la", make=lambda: encode(Image.fromarray(np.dstack([grey(), alpha()])), "PNG")),
    PictureCase(id="rgb-transparent-colour", make=lambda: rgb_file(transparency=(0, 0, 0))),
    PictureCase(
        id="grey-transparent-tone",
        make=lambda: encode(Image.fromarray(grey() // 64), "PNG", transparency=1),
    ),
    PictureCase(id="grey", make=lambda: encode(Image.fromarray(grey()), "PNG")),
    PictureCase(id="grey-16-bit", make=lambda: encode(Image.fromarray(grey16()), "PNG")),
    PictureCase(id="grey-16-bit-tiff", make=lambda: encode(Image.fromarray(grey16()), "TIFF")),
    PictureCase(id="grey-32-bit-pillow", make=lambda: Image.fromarray(grey16().astype(np.int32))),
    PictureCase(id="palette", make=lambda: _paletted("PNG")),
    PictureCase(id="palette-transparent", make=lambda: _paletted("PNG", transparency=2)),
    PictureCase(
        id="palette-half-transparent",
        make=lambda: _paletted("PNG", transparency=bytes([0, 60, 128, 255, 255, 200, 30, 255])),
    ),
    PictureCase(id="gif-transparent", make=lambda: _paletted("GIF", transparency=2)),
    PictureCase(id="cmyk-tiff", make=lambda: _cmyk("TIFF")),
    PictureCase(id="cmyk-jpeg", make=lambda: _cmyk("JPEG", quality=90)),
    PictureCase(id="1-bit", make=lambda: encode(Image.fromarray(grey() > 100), "PNG")),
    PictureCase(id="ycbcr-pillow", make=lambda: Image.fromarray(scene()).convert("YCbCr")),
    PictureCase(
        id="a-models-size",
        make=lambda: scene(300, 500),
        preprocessing=ImagePreprocessing(height=96, width=96, crop_fraction=0.875),
    ),
    *(
        PictureCase(
            id=f"{fit}-{resample}-{height}x{width}",
            make=scene,
            preprocessing=ImagePreprocessing(
                height=height, width=width, fit=fit, resample=resample, crop_fraction=0.875
            ),
        )
        for fit, resample, height, width in (
            ("crop", "nearest", 4, 4),
            ("crop", "bilinear", 5, 3),
            ("crop", "bicubic", 3, 5),
            ("crop", "lanczos", 4, 4),
            ("stretch", "bilinear", 4, 4),
            ("stretch", "bicubic", 20, 3),
        )
    ),
)


def _as_text(tensor: np.ndarray[Any, Any]) -> list[str]:
    """One line a row, one ``rrggbb`` a pixel; of a large tensor the hash only."""
    if tensor.size > 1000:
        return [f"sha256 {hashlib.sha256(tensor.tobytes()).hexdigest()}"]
    return [" ".join(pixel.tobytes().hex() for pixel in row) for row in tensor]


def _prepare(case: PictureCase) -> list[str]:
    return _as_text(np.ascontiguousarray(case.preprocessing.prepare(case.make())))


@pytest.fixture(scope="module")
def recorded(regenerate_golden: bool) -> dict[str, list[str]]:
    if regenerate_golden:
        value = {case.id: _prepare(case) for case in CASES}
        GOLDEN.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_picture_becomes_its_golden_tensor(
    recorded: dict[str, list[str]], case: PictureCase
) -> None:
    assert _prepare(case) == recorded[case.id]


def test_nothing_is_recorded_twice_or_in_vain(recorded: dict[str, list[str]]) -> None:
    assert [case.id for case in CASES] == list(recorded)


def test_pictures_that_hold_the_same_scene_agree(recorded: dict[str, list[str]]) -> None:
    turned = [f"png-orientation-{number}" for number in range(1, 9)]
    same = ("array", "png", "bmp", "tiff", "webp-lossless", "exif-unreadable", *turned)
    for name in same:
        assert recorded[name] == recorded["array"], name
    assert recorded["grey-16-bit"] == recorded["grey-16-bit-tiff"] == recorded["grey-32-bit-pillow"]
    assert recorded["grey"] == recorded["array-grey"]
    assert recorded["mpo"] == recorded["jpeg"]
