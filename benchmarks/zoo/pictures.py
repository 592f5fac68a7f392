"""Seeded pictures for members without a data set: gratings to classify, shapes to segment.

Pixels are rounded to 8 bits before they are scaled, as real pictures are; that also packs well.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_ORIENTATIONS = 4
_WAVES = (9.0, 17.0)
GRATING_CLASSES = _ORIENTATIONS * len(_WAVES)
SHAPE_CLASSES = 4


def gratings(
    count: int, *, size: int, seed: int, tilt: float = 0.2, noise: float = 60.0
) -> tuple[Images, Labels]:
    """Draw noisy coloured gratings; the class is orientation and wavelength.

    Args:
        count: Pictures.
        size: Rows and columns.
        seed: Seed of everything.
        tilt: Deviation of the orientation, in radians: neighbours are 0.79 apart.
        noise: Deviation of the pixels' noise, of 255.

    Returns:
        float32 ``(count, 3, size, size)`` and int64 ``(count,)``.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, GRATING_CLASSES, count)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    images = np.empty((count, 3, size, size), dtype=np.float32)
    for index, label in enumerate(labels):
        angle = np.pi / _ORIENTATIONS * (label % _ORIENTATIONS) + rng.normal(0, tilt)
        wave = _WAVES[label // _ORIENTATIONS] * np.exp(rng.normal(0, 0.15))
        along = rows * np.sin(angle) + columns * np.cos(angle)
        stripes = np.sin(2 * np.pi * along / wave + rng.uniform(0, 2 * np.pi))
        colour = rng.uniform(20, 60, (3, 1, 1)) * stripes + rng.uniform(90, 165, (3, 1, 1))
        grain = rng.standard_normal((3, size, size), dtype=np.float32) * noise
        images[index] = scaled(colour + grain)
    return images, labels.astype(np.int64)


def shapes(count: int, *, size: int, seed: int) -> tuple[Images, Labels]:
    """Draw discs, boxes and stripes on noise, and what each pixel belongs to.

    Returns:
        float32 ``(count, 3, size, size)`` and int64 ``(count, size, size)``: 0 is background.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size]
    images = np.empty((count, 3, size, size), dtype=np.float32)
    masks = np.zeros((count, size, size), dtype=np.int64)
    for index in range(count):
        canvas = np.broadcast_to(rng.uniform(60, 120, (3, 1, 1)), (3, size, size)).copy()
        for kind in rng.permutation([1, 1, 2, 2, 3]):
            y, x, radius = *rng.uniform(0, size, 2), rng.uniform(6, size / 5)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            box = (abs(rows - y) < radius) & (abs(columns - x) < radius)
            bar = (abs(rows - y) < radius / 3) & (abs(columns - x) < 2 * radius)
            where = (disc, box, bar)[kind - 1]
            canvas[:, where] = rng.uniform(110, 220, (3, 1))
            masks[index][where] = kind
        images[index] = scaled(canvas + rng.normal(0, 25, (3, size, size)))
    return images, masks


def enlarged(images: npt.NDArray[np.uint8], *, size: int, seed: int, noise: float = 0.0) -> Images:
    """Enlarge grey pictures by whole pixels, centre them, and give them three channels.

    Args:
        images: uint8 ``(count, height, width)``.
        size: Rows and columns of the result, a multiple of nothing in particular.
        seed: Seed of the noise.
        noise: Deviation of the pixels' noise, of 255.

    Returns:
        float32 ``(count, 3, size, size)``, as EfficientNet-Lite's weights expect them.
    """
    index = np.arange(size) * images.shape[1] // size
    large = images[:, index][:, :, index].astype(np.float32)
    rng = np.random.default_rng(seed)
    grain = rng.standard_normal(large.shape, dtype=np.float32) * noise
    pixels = np.clip(np.rint(large + grain), 0, 255)
    one = ((pixels - 127.0) / 128.0).astype(np.float32)
    return np.repeat(one[:, None], 3, axis=1)


def scaled(pixels: npt.NDArray[np.floating]) -> Images:
    """Round to 8 bits and scale to about unit variance."""
    return ((np.clip(np.rint(pixels), 0, 255) - 127.5) / 64.0).astype(np.float32)
