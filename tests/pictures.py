"""Pictures for tests, all generated: a scene without any symmetry, in every kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
# What a camera does to an upright scene before it writes the tag: the inverse of a reader's part.
_AS_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def scene(height: int = 12, width: int = 16) -> np.ndarray[Any, Any]:
    """uint8 ``(height, width, 3)``: each corner differs, and red, green and blue differ."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 255 * columns / max(width - 1, 1)
    green = 255 * rows / max(height - 1, 1)
    blue = 255 * (rows * columns) / max((height - 1) * (width - 1), 1)
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def grey(height: int = 12, width: int = 16) -> np.ndarray[Any, Any]:
    """uint8 ``(height, width)``: a ramp down and across."""
    rows, columns = np.mgrid[0:height, 0:width]
    return ((rows * 9 + columns * 7) % 256).astype(np.uint8)


def grey16(height: int = 12, width: int = 16) -> np.ndarray[Any, Any]:
    """uint16 ``(height, width)``: the same ramp over the whole range, 65535 included."""
    ramp = np.linspace(0, 65535, height * width).round().astype(np.uint16)
    return ramp.reshape(height, width)


def alpha(height: int = 12, width: int = 16) -> np.ndarray[Any, Any]:
    """uint8 ``(height, width)``: transparent at the left, opaque at the right."""
    row = np.linspace(0, 255, width).round().astype(np.uint8)
    return np.broadcast_to(row, (height, width)).copy()


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode one picture."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rgb_file(kind: str = "PNG", **options: Any) -> bytes:
    """The scene in one kind of file."""
    return encode(Image.fromarray(scene()), kind, **options)


def oriented(orientation: int, kind: str = "PNG", **options: Any) -> bytes:
    """The scene as a camera held in some way would store it."""
    stored = np.ascontiguousarray(_AS_STORED[orientation](scene()))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(Image.fromarray(stored), kind, exif=exif, **options)


def with_exif(block: bytes, kind: str = "JPEG") -> bytes:
    """The scene with an EXIF block of these very bytes."""
    return rgb_file(kind, exif=b"Exif\x00\x00" + block)


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF directory: tag, type, count and four bytes of value for each entry."""
    rows = b"".join(
        struct.pack("<HHI", tag, kind, count) + raw for tag, kind, count, raw in entries
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + b"\0\0\0\0"


def animation(kind: str, num_frames: int = 3) -> bytes:
    """Frames that differ, so that no writer merges them."""
    frames = [Image.fromarray(np.roll(scene(), 3 * i, axis=1)) for i in range(num_frames)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def png(width: int, height: int, *, rows: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header says what it is told to, with ``rows`` as compressed data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def bomb(width: int, height: int) -> bytes:
    """A real one-bit PNG: every row is there, and compresses to almost nothing."""
    squeezer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(squeezer.compress(row) for _ in range(height)) + squeezer.flush()
    return png(width, height, rows=rows, depth=1)


def gif_with_large_frame(side: int) -> bytes:
    """A GIF of a 4x4 screen whose only frame claims to be larger."""
    data = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    start = data.index(b"\x2c")
    data[start + 5 : start + 9] = struct.pack("<HH", side, side)
    return bytes(data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
