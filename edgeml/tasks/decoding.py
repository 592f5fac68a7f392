"""From whatever a user has to an RGB picture, within limits that hostile files cannot pass.

Decoding trusts the contents, never the file's name. Each limit is checked before the work that it
bounds: bytes before reading, pixels and frames from the header before any pixel is decoded.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from edgeml.errors import InputError

# MPO has no opener of its own in Pillow: its JPEG opener recognises it.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an image may cost before it is refused.

    Attributes:
        max_bytes: Size of the encoded file.
        max_pixels: Width times height, from the header.
        max_side: Longer side, from the header: a row or a resampling filter costs memory of its
            own, which pictures of extreme proportions would have by the million.
        max_frames: Frames; an animation or a multi-page file has more than one.
    """

    max_bytes: int = 32 << 20
    max_pixels: int = 50_000_000
    max_side: int = 65_535
    max_frames: int = 1


def decode_image(item: Any, limits: ImageLimits) -> Image.Image:
    """Decode anything that the image task accepts into an upright RGB picture.

    Orientation is taken from EXIF, and an EXIF block that cannot be read counts as none.
    Transparency is laid over white. Grey, palette, CMYK and 16-bit pictures become 8-bit RGB
    (16-bit grey by rounding value / 257).

    Args:
        item: Encoded bytes, a path, an open binary file, a PIL image, or a uint8 array
            ``(height, width[, 3])``.
        limits: What it may cost.

    Returns:
        A PIL image of mode ``RGB``.

    Raises:
        InputError: It is not a picture, is damaged, or exceeds a limit.
    """
    if isinstance(item, np.ndarray):
        return _from_array(item, limits)
    if isinstance(item, Image.Image):
        return _to_rgb(item, "image", limits)
    if isinstance(item, (str, Path)):
        path = Path(item)
        return _from_bytes(_read(path, limits), path.name, limits)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(item), "image", limits)
    if isinstance(item, io.IOBase):
        return _from_bytes(_read_open(item, limits), "image", limits)
    raise InputError(
        f"a {type(item).__name__} is not an image; bytes, a path, a PIL image or a uint8 array "
        "(height, width[, 3]) was expected; convert it",
        got=type(item).__name__,
    )


def _read(path: Path, limits: ImageLimits) -> bytes:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist or is not a regular file"
            raise InputError(f"this path {what}; an image file was expected", item=str(path))
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as exc:
        if isinstance(exc, InputError):
            raise
        raise InputError(
            f"the file cannot be read ({exc}); a readable image file was expected", item=str(path)
        ) from exc


def _read_open(file: Any, limits: ImageLimits) -> bytes:
    try:
        data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as exc:
        raise InputError(
            f"the open file cannot be read ({exc}); a readable binary file was expected"
        ) from exc
    if not isinstance(data, bytes):
        raise InputError("the open file gives text; a file opened with mode 'rb' was expected")
    return data


def _from_bytes(data: bytes, name: str, limits: ImageLimits) -> Image.Image:
    if not data:
        raise InputError("the image is empty (0 bytes); an encoded image was expected", item=name)
    if len(data) > limits.max_bytes:
        raise _over("max_bytes", f"over {limits.max_bytes} bytes", limits.max_bytes, name)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return _to_rgb(image, name, limits)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise _over("max_pixels", "a decompression bomb", limits.max_pixels, name) from exc
    except UnidentifiedImageError as exc:
        raise InputError(
            f"this is not an image in a known format; one of {', '.join(_FORMATS)} was expected; "
            "check that the contents are what the name says",
            item=name,
        ) from exc
    except Exception as exc:
        raise InputError(
            f"the image is damaged or truncated ({exc}); a complete file was expected; resend it",
            item=name,
        ) from exc


def _from_array(array: np.ndarray[Any, Any], limits: ImageLimits) -> Image.Image:
    colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (array.ndim == 2 or colour) or array.size == 0:
        shape = ", ".join(str(size) for size in array.shape)
        raise InputError(
            f"the array is {array.dtype} ({shape}); uint8 (height, width) or (height, width, 3) "
            "was expected; scale to 0..255 and convert with astype('uint8')",
            got=f"{array.dtype} ({shape})",
        )
    _check_pixels(array.shape[1], array.shape[0], "array", limits)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _to_rgb(image: Image.Image, name: str, limits: ImageLimits) -> Image.Image:
    _check_pixels(image.width, image.height, name, limits)
    frames = getattr(image, "n_frames", 1)
    # Telephones write MPO: a JPEG whose further frames are previews of the first.
    if frames > limits.max_frames and image.format != "MPO":
        raise _over("max_frames", f"{frames} frames", limits.max_frames, name)
    try:
        image.load()
        return _flatten(_turn_upright(image), name)
    except InputError:
        raise
    except Exception as exc:
        raise InputError(
            f"the image is damaged or truncated ({exc}); a complete file was expected; resend it",
            item=name,
        ) from exc


def _turn_upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also writes the EXIF block back, which fails on blocks that
    # cameras and editors do produce, although the orientation was read and the pixels are whole.
    try:
        method = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image if method is None else image.transpose(method)


def _flatten(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(
                "the image has 32-bit values; at most 16 bits were expected; scale it", item=name
            )
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise InputError(
            "the image has float values; 8- or 16-bit values were expected; scale it to 0..255",
            item=name,
        )
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        front = image.convert("RGBA")
        back = Image.new("RGBA", front.size, "white")
        return Image.alpha_composite(back, front).convert("RGB")
    return image.convert("RGB")


def _check_pixels(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width * height == 0:
        raise InputError(
            f"the image has {width}x{height} pixels; at least one was expected; send a picture",
            item=name,
            got=f"{width}x{height} pixels",
        )
    if width * height > limits.max_pixels:
        raise _over("max_pixels", f"{width}x{height} pixels", limits.max_pixels, name)
    if max(width, height) > limits.max_side:
        raise _over("max_side", f"{width}x{height} pixels", limits.max_side, name)


def _over(limit: str, got: str, allowed: int, name: str) -> InputError:
    return InputError(
        f"the image has {got}; the limit {limit} is {allowed}; send a smaller or a still image",
        item=name,
        limit=limit,
        got=got,
    )
