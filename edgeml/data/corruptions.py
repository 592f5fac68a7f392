"""What happens to pictures in the field, at stated strengths; and pictures of nothing at all.

Each corruption takes what the model sees, uint8 ``(height, width, 3)``, so that its strength means
the same at every camera's resolution. Pillow and numpy only; the same seed gives the same pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One kind of damage, and how strong it is tried.

    Attributes:
        name: Its name.
        unit: What a strength is.
        strengths: From mild to severe.
        apply: Picture, strength and chance to a picture of the same shape.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Picture, float, np.random.Generator], Picture]


def _blurred(picture: Picture, radius: float, _: np.random.Generator) -> Picture:
    blur = ImageFilter.GaussianBlur(radius)
    return np.asarray(Image.fromarray(picture).filter(blur))


def _noisy(picture: Picture, levels: float, rng: np.random.Generator) -> Picture:
    noise = rng.normal(0, levels, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


def _compressed(picture: Picture, quality: float, _: np.random.Generator) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _brighter(picture: Picture, factor: float, _: np.random.Generator) -> Picture:
    return (picture * factor).round().clip(0, 255).astype(np.uint8)


def _turned(picture: Picture, degrees: float, rng: np.random.Generator) -> Picture:
    """Turn to a random side; the corners repeat the border, as if the picture had gone on."""
    side = max(picture.shape[:2])
    wide = Image.fromarray(np.pad(picture, ((side, side), (side, side), (0, 0)), mode="edge"))
    turned = wide.rotate(degrees * rng.choice([-1, 1]), Image.Resampling.BILINEAR)
    height, width = picture.shape[:2]
    return np.asarray(turned.crop((side, side, side + width, side + height)))


CORRUPTIONS = (
    Corruption(name="blur", unit="radius, px", strengths=(0.5, 1, 2), apply=_blurred),
    Corruption(name="noise", unit="deviation, levels", strengths=(8, 16, 32), apply=_noisy),
    Corruption(name="jpeg", unit="quality", strengths=(50, 25, 10), apply=_compressed),
    Corruption(name="dark", unit="factor", strengths=(0.8, 0.6, 0.4), apply=_brighter),
    Corruption(name="bright", unit="factor", strengths=(1.2, 1.5, 2), apply=_brighter),
    Corruption(name="rotation", unit="degrees", strengths=(5, 15, 30), apply=_turned),
)


def corrupt(images: Picture, corruption: Corruption, strength: float, *, seed: int) -> Picture:
    """Return corrupted copies of pictures, uint8 ``(samples, height, width, 3)``."""
    rng = np.random.default_rng(seed)
    return np.stack([corruption.apply(image, strength, rng) for image in images])


def made_up_pictures(count: int, height: int, width: int, *, seed: int) -> Picture:
    """Return patterns that are pictures of nothing: noise, clouds, stripes, checks, blots.

    Args:
        count: How many.
        height: Rows.
        width: Columns.
        seed: Seed of everything random.

    Returns:
        uint8 ``(count, height, width, 3)``, a fifth of each kind.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    drawn = []
    for number in range(count):
        one, other = rng.integers(0, 256, (2, 3))
        kind = number % 5
        if kind == 0:
            drawn.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            continue
        if kind == 1:
            small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            cloud = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
            drawn.append(np.asarray(cloud))
            continue
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, max(5, width / 3))
        across = rows * np.sin(angle) + columns * np.cos(angle)
        along = columns * np.sin(angle) - rows * np.cos(angle)
        if kind == 2:
            mask = np.sin(2 * np.pi * across / period) > 0
        elif kind == 3:
            mask = (np.floor(across / period) + np.floor(along / period)) % 2 > 0
        else:
            middle = rng.uniform(0.2, 0.8, 2) * (height, width)
            reach = rng.uniform(0.1, 0.5) * height
            mask = np.hypot(rows - middle[0], columns - middle[1]) < reach
        drawn.append(np.where(mask[..., None], one, other).astype(np.uint8))
    return np.stack(drawn)
