"""Hostile and odd pictures: each is an InputError of one line, or exactly what it holds."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeml.errors import InputError
from edgeml.tasks.decoding import ImageLimits, decode_image
from tests import pictures
from tests.pictures import (
    alpha,
    animation,
    bomb,
    encode,
    exif_block,
    gif_with_large_frame,
    grey,
    grey16,
    oriented,
    png,
    rgb_file,
    scene,
    with_exif,
)

LIMITS = ImageLimits()
# Pillow warns about what it is about to refuse or to skip; users see these, and we must do without.
quiet = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
KINDS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


@dataclass(frozen=True, kw_only=True)
class HostileCase:
    """Something that is no usable picture. ``make`` may use an empty folder."""

    id: str
    make: Callable[[Path], Any]
    says: str
    limit: str | None = None


def _file(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def _loop(folder: Path) -> Path:
    (folder / "loop.png").symlink_to("loop.png")
    return folder / "loop.png"


def _dangling(folder: Path) -> Path:
    (folder / "dangling.png").symlink_to("nothing.png")
    return folder / "dangling.png"


def _large_file(folder: Path) -> Path:
    with (folder / "large.png").open("wb") as file:
        file.write(rgb_file())
        file.truncate(LIMITS.max_bytes + 1)
    return folder / "large.png"


def _always(value: Any) -> Callable[[Path], Any]:
    return lambda _: value


_EMPTY = "is empty (0 bytes)"
_UNKNOWN = "not an image in a known format"
_DAMAGED = "damaged or truncated"
_ARRAY = "uint8 (height, width) or (height, width, 3) was expected"
_TYPE = "is not an image"

HOSTILE = (
    HostileCase(id="empty", make=_always(b""), says=_EMPTY),
    HostileCase(id="empty-file", make=_file("a.png", b""), says="a.png: the image is empty"),
    HostileCase(id="text", make=_always(b"hello, I am a PNG"), says=_UNKNOWN),
    HostileCase(
        id="text-named-png", make=_file("cat.png", b"not a cat\n"), says="cat.png: this is not"
    ),
    HostileCase(id="html-named-jpg", make=_file("a.jpg", b"<html></html>"), says=_UNKNOWN),
    HostileCase(id="zeros", make=_always(bytes(5000)), says=_UNKNOWN),
    HostileCase(id="signature-only", make=_always(b"\x89PNG\r\n\x1a\n"), says=""),
    HostileCase(
        id="format-not-accepted", make=_always(encode(Image.new("L", (4, 4)), "PPM")), says=_UNKNOWN
    ),
    HostileCase(
        id="script",
        make=_always(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"),
        says=_UNKNOWN,
    ),
    HostileCase(
        id="broken-pixels",
        make=_always(png(4, 4, rows=b"no zlib stream at all")),
        says=_DAMAGED,
    ),
    HostileCase(id="no-pixels", make=_always(png(4, 4)), says=_DAMAGED),
    HostileCase(
        id="100-megapixel-header",
        make=_always(png(10_000, 10_000)),
        says="pixels",
        limit="max_pixels",
    ),
    HostileCase(
        id="51-megapixel-header",
        make=_always(png(10_000, 5_100)),
        says="10000x5100 pixels; the limit max_pixels is 50000000",
        limit="max_pixels",
    ),
    HostileCase(
        id="largest-header",
        make=_always(png(2**31 - 1, 2**31 - 1)),
        says="the limit max_pixels is 50000000",
        limit="max_pixels",
    ),
    HostileCase(
        id="100-megapixel-bomb",
        make=lambda _: bomb(10_000, 10_000),
        says="the limit max_pixels is",
        limit="max_pixels",
    ),
    HostileCase(
        id="gif-frame-beyond-its-screen",
        make=_always(gif_with_large_frame(10_000)),
        says="the limit max_pixels is",
        limit="max_pixels",
    ),
    HostileCase(
        id="large-array",
        make=lambda _: np.broadcast_to(np.uint8(0), (8000, 8000)),
        says="8000x8000 pixels; the limit max_pixels is",
        limit="max_pixels",
    ),
    HostileCase(
        id="too-many-bytes",
        make=lambda _: bytes(LIMITS.max_bytes + 1),
        says="the limit max_bytes is 33554432",
        limit="max_bytes",
    ),
    HostileCase(
        id="large-file", make=_large_file, says="the limit max_bytes is", limit="max_bytes"
    ),
    *(
        HostileCase(
            id=f"animated-{kind.lower()}",
            make=lambda _, kind=kind: animation(kind),
            says="3 frames; the limit max_frames is 1",
            limit="max_frames",
        )
        for kind in ("GIF", "WEBP", "PNG", "TIFF")
    ),
    HostileCase(
        id="animated-pillow-image",
        make=lambda _: Image.open(io.BytesIO(animation("GIF"))),
        says="3 frames; the limit max_frames is 1",
        limit="max_frames",
    ),
    HostileCase(
        id="truncated-pillow-image",
        make=lambda _: Image.open(io.BytesIO(encode(Image.fromarray(scene(40, 60)), "PNG")[:200])),
        says=_DAMAGED,
    ),
    HostileCase(
        id="empty-pillow-image", make=lambda _: Image.new("RGB", (0, 0)), says="0x0 pixels"
    ),
    HostileCase(id="flat-pillow-image", make=lambda _: Image.new("L", (5, 0)), says="5x0 pixels"),
    HostileCase(
        id="float-pillow-image", make=lambda _: Image.new("F", (4, 4)), says="float values"
    ),
    HostileCase(
        id="32-bit-pillow-image",
        make=lambda _: Image.new("I", (4, 4), 65536),
        says="at most 16 bits",
    ),
    HostileCase(
        id="negative-pillow-image",
        make=lambda _: Image.new("I", (4, 4), -1),
        says="at most 16 bits",
    ),
    HostileCase(id="folder", make=lambda folder: folder, says="is a folder"),
    HostileCase(id="folder-text", make=str, says="is a folder"),
    HostileCase(id="empty-text", make=_always(""), says="is a folder"),
    HostileCase(
        id="missing",
        make=lambda folder: folder / "missing.png",
        says="missing.png: this path does not exist",
    ),
    HostileCase(id="missing-text", make=_always("missing.png"), says="does not exist"),
    HostileCase(
        id="below-a-file", make=lambda f: _file("a", b"x")(f) / "b.png", says="does not exist"
    ),
    HostileCase(id="pipe", make=_pipe, says="not a regular file"),
    HostileCase(id="device", make=_always("/dev/zero"), says="not a regular file"),
    HostileCase(id="symlink-loop", make=_loop, says="does not exist"),
    HostileCase(id="dangling-symlink", make=_dangling, says="does not exist"),
    HostileCase(id="nul-in-path", make=_always("a\0b.png"), says="does not exist"),
    HostileCase(id="path-too-long", make=_always("x" * 5000), says="cannot be read"),
    HostileCase(id="lone-surrogate", make=_always("\ud800.png"), says=""),
    HostileCase(
        id="nan-array",
        make=_always(np.full((4, 4, 3), np.nan)),
        says="float64 (4, 4, 3); " + _ARRAY,
    ),
    HostileCase(
        id="float-array", make=_always(np.zeros((4, 4), dtype=np.float32)), says="float32 (4, 4)"
    ),
    HostileCase(id="signed-array", make=_always(np.zeros((4, 4), dtype=np.int8)), says="int8"),
    HostileCase(id="wide-array", make=_always(np.zeros((4, 4), dtype=np.uint16)), says="uint16"),
    HostileCase(id="bool-array", make=_always(np.zeros((4, 4), dtype=bool)), says="bool"),
    HostileCase(id="object-array", make=_always(np.full((4, 4), None)), says="object"),
    HostileCase(id="text-array", make=_always(np.array(["a.png"])), says=_ARRAY),
    HostileCase(id="zero-dimensions", make=_always(np.array(7, dtype=np.uint8)), says="uint8 ()"),
    HostileCase(id="one-dimension", make=_always(np.zeros(9, dtype=np.uint8)), says="uint8 (9)"),
    HostileCase(
        id="four-dimensions", make=_always(np.zeros((1, 4, 4, 3), dtype=np.uint8)), says=_ARRAY
    ),
    HostileCase(id="four-channels", make=_always(np.zeros((4, 4, 4), dtype=np.uint8)), says=_ARRAY),
    HostileCase(
        id="channels-first", make=_always(np.zeros((3, 4, 4), dtype=np.uint8)), says=_ARRAY
    ),
    HostileCase(id="no-rows", make=_always(np.zeros((0, 4), dtype=np.uint8)), says="uint8 (0, 4)"),
    HostileCase(id="no-columns", make=_always(np.zeros((4, 0, 3), dtype=np.uint8)), says=_ARRAY),
    HostileCase(id="number", make=_always(5), says="a int " + _TYPE),
    HostileCase(id="none", make=_always(None), says="a NoneType " + _TYPE),
    HostileCase(id="list", make=_always([[0, 1], [2, 3]]), says="a list " + _TYPE),
    HostileCase(id="text-stream", make=_always(io.StringIO("x")), says="mode 'rb'"),
    HostileCase(id="empty-stream", make=lambda _: io.BytesIO(), says="empty"),
)


@quiet
@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.id)
def test_a_hostile_picture_is_refused_at_once(tmp_path: Path, case: HostileCase) -> None:
    item = case.make(tmp_path)
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        decode_image(item, LIMITS)
    assert time.process_time() - start < 2
    assert case.says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.limit == case.limit


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_warnings_as_errors_do_not_change_a_verdict(side: int) -> None:
    # Pillow warns from 90 and refuses from 180 megapixels; both are the limit that we name.
    with pytest.raises(InputError) as caught:
        decode_image(png(side, side), LIMITS)
    assert caught.value.limit == "max_pixels"


@quiet
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.95])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    whole = encode(Image.fromarray(scene(40, 60)), kind)
    decode_image(whole, LIMITS)
    with pytest.raises(InputError) as caught:
        decode_image(whole[: int(len(whole) * share)], LIMITS)
    assert "\n" not in str(caught.value)


@quiet
@pytest.mark.parametrize("kind", KINDS)
def test_noise_in_a_file_is_refused_or_read_and_nothing_else(
    kind: str, rng: np.random.Generator
) -> None:
    whole = np.frombuffer(encode(Image.fromarray(scene(20, 30)), kind), dtype=np.uint8)
    refused = 0
    for _ in range(60):
        data = whole.copy()
        places = rng.integers(0, len(data), size=int(rng.integers(1, 9)))
        data[places] = rng.integers(0, 256, size=len(places))
        try:
            picture = decode_image(data.tobytes(), LIMITS)
        except InputError:
            refused += 1
        else:
            assert picture.mode == "RGB"
    assert refused > 0


def test_limits_are_inclusive() -> None:
    data = rgb_file()
    exact = ImageLimits(max_bytes=len(data), max_pixels=12 * 16)
    assert decode_image(data, exact).size == (16, 12)
    with pytest.raises(InputError, match="max_bytes"):
        decode_image(data, ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(InputError, match="max_pixels"):
        decode_image(data, ImageLimits(max_pixels=12 * 16 - 1))
    with pytest.raises(InputError, match="max_pixels"):
        decode_image(scene(), ImageLimits(max_pixels=12 * 16 - 1))
    assert decode_image(animation("GIF", 3), ImageLimits(max_frames=3)).size == (16, 12)


def test_a_large_still_picture_within_the_limits_is_read() -> None:
    assert decode_image(bomb(3000, 2000), LIMITS).size == (3000, 2000)


def test_the_contents_count_and_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "png-inside.jpg"
    file.write_bytes(rgb_file("PNG"))
    np.testing.assert_array_equal(decode_image(file, LIMITS), scene())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_files_hold_what_was_put_in(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode_image(rgb_file(kind, **options), LIMITS)
    np.testing.assert_array_equal(picture, scene())


def test_every_form_of_bytes_is_read(tmp_path: Path) -> None:
    data = rgb_file()
    (tmp_path / "a.png").write_bytes(data)
    for item in (
        data,
        bytearray(data),
        memoryview(data),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
    ):
        np.testing.assert_array_equal(decode_image(item, LIMITS), scene())


def test_arrays_of_any_layout_are_read() -> None:
    for array in (scene()[::-1], scene()[:, ::2], np.asfortranarray(scene())):
        np.testing.assert_array_equal(decode_image(array, LIMITS), array)
    grey_picture = np.asarray(decode_image(grey().T, LIMITS))
    np.testing.assert_array_equal(grey_picture, np.repeat(grey().T[:, :, None], 3, axis=2))


def test_the_users_image_is_left_alone() -> None:
    image = Image.fromarray(scene())
    image.getexif()[pictures.ORIENTATION] = 6
    before = image.copy()
    turned = decode_image(image, LIMITS)
    assert turned.size == (12, 16)
    assert (image.size, image.mode) == (before.size, before.mode)
    np.testing.assert_array_equal(image, before)
    assert image.getexif()[pictures.ORIENTATION] == 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = oriented(orientation, kind, **options)
    np.testing.assert_array_equal(decode_image(data, LIMITS), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation: int) -> None:
    data = oriented(orientation, "JPEG", quality=95, subsampling=0)
    difference = np.asarray(decode_image(data, LIMITS)).astype(int) - scene()
    assert np.abs(difference).max() < 30  # the corners differ by 255


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    block = exif_block((pictures.ORIENTATION, 3, 1, orientation.to_bytes(4, "little")))
    np.testing.assert_array_equal(decode_image(with_exif(block, "PNG"), LIMITS), scene())


_TURN = (pictures.ORIENTATION, 3, 1, b"\x06\0\0\0")


@dataclass(frozen=True, kw_only=True)
class ExifCase:
    """An EXIF block that is damaged around or inside its orientation."""

    id: str
    block: bytes
    turned: bool


@quiet
@pytest.mark.parametrize(
    "case",
    [
        ExifCase(id="sound", block=exif_block(_TURN), turned=True),
        ExifCase(id="empty", block=b"", turned=False),
        ExifCase(id="text", block=b"this is no TIFF header", turned=False),
        ExifCase(id="header-only", block=b"II*\0\x08\0\0\0", turned=False),
        ExifCase(id="far-directory", block=b"II*\0\xff\xff\xff\x7f", turned=False),
        ExifCase(id="cut", block=exif_block(_TURN)[:12], turned=False),
        ExifCase(
            id="far-text-tag",
            block=exif_block((0x010F, 2, 4000, b"\xff\xff\0\0"), _TURN),
            turned=True,
        ),
        ExifCase(
            id="negative-gps", block=exif_block(_TURN, (0x8825, 9, 1, b"\xff" * 4)), turned=True
        ),
        ExifCase(
            id="text-as-directory", block=exif_block(_TURN, (0x8769, 2, 4, b"abc\0")), turned=True
        ),
        ExifCase(
            id="text-as-orientation",
            block=exif_block((pictures.ORIENTATION, 2, 2, b"6\0\0\0")),
            turned=False,
        ),
        ExifCase(
            id="no-values", block=exif_block((pictures.ORIENTATION, 3, 0, b"\0" * 4)), turned=False
        ),
    ],
    ids=lambda case: case.id,
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_exif_block_does_not_cost_the_picture(case: ExifCase, kind: str) -> None:
    picture = decode_image(with_exif(case.block, kind), LIMITS)
    assert picture.size == ((12, 16) if case.turned else (16, 12))


def _over_white(
    colour: np.ndarray[Any, Any], opacity: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    share = opacity.astype(np.float64)[..., None] / 255
    return np.asarray(colour * share + 255 * (1 - share))


def test_transparency_is_laid_over_white() -> None:
    colours = Image.fromarray(np.dstack([scene(), alpha()]))
    tones = Image.fromarray(np.dstack([grey(), alpha()]))
    assert (colours.mode, tones.mode) == ("RGBA", "LA")
    got = np.asarray(decode_image(encode(colours, "PNG"), LIMITS)).astype(float)
    np.testing.assert_allclose(got, _over_white(scene(), alpha()), atol=1)
    got = np.asarray(decode_image(encode(tones, "PNG"), LIMITS)).astype(float)
    np.testing.assert_allclose(
        got, _over_white(np.repeat(grey()[..., None], 3, 2), alpha()), atol=1
    )


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    indices = (grey() // 64).astype(np.uint8)
    paletted = Image.frombytes("P", (16, 12), indices.tobytes())
    paletted.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    opaque = np.asarray(decode_image(encode(paletted, "PNG"), LIMITS))
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8)
    np.testing.assert_array_equal(opaque, palette[indices])
    for kind in ("PNG", "GIF"):
        holed = np.asarray(decode_image(encode(paletted, kind, transparency=1), LIMITS))
        expected = np.where((indices == 1)[..., None], 255, palette[indices])
        np.testing.assert_array_equal(holed, expected)


def test_16_bits_are_rounded_to_8() -> None:
    expected = np.repeat(np.round(grey16() / 257).astype(np.uint8)[..., None], 3, axis=2)
    for kind in ("PNG", "TIFF"):
        got = decode_image(encode(Image.fromarray(grey16()), kind), LIMITS)
        np.testing.assert_array_equal(got, expected)
    wide = Image.fromarray(grey16().astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_array_equal(decode_image(wide, LIMITS), expected)


def test_one_bit_is_black_and_white() -> None:
    bits = grey() > 100
    got = np.asarray(decode_image(encode(Image.fromarray(bits), "PNG"), LIMITS))
    np.testing.assert_array_equal(got, np.repeat((bits * 255).astype(np.uint8)[..., None], 3, 2))


def test_ink_becomes_light() -> None:
    ink = np.zeros((2, 2, 4), dtype=np.uint8)
    ink[0, 0] = (255, 0, 0, 0)  # cyan
    ink[1, 1] = (0, 0, 0, 255)  # black
    image = Image.frombytes("CMYK", (2, 2), ink.tobytes())
    got = np.asarray(decode_image(encode(image, "TIFF"), LIMITS))
    assert got.tolist() == [[[0, 255, 255], [255, 255, 255]], [[255, 255, 255], [0, 0, 0]]]


def test_a_telephones_photograph_is_its_first_frame() -> None:
    frames = [Image.fromarray(scene()), Image.new("RGB", (16, 12), "black")]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    alone = np.asarray(decode_image(rgb_file("JPEG", quality=95), LIMITS))
    np.testing.assert_array_equal(decode_image(data, LIMITS), alone)


def test_an_open_file_is_read() -> None:
    data = rgb_file()
    opened = decode_image(io.BytesIO(data), ImageLimits())
    assert opened.tobytes() == decode_image(data, ImageLimits()).tobytes()
