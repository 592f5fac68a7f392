"""Near copies among pictures: all are compared with all, by thumbnails.

Two pictures are near copies when 16x16 grey thumbnails of what the model would see correlate by at
least 0.985 and differ by at most 4 of 255 levels on average, brightness aside: recompressed,
resized and slightly brightened copies are found; turned, mirrored and cut ones are not. Thumbnails
without contrast tell nothing and are copies of none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Indices = npt.NDArray[np.int64]

_SIDE = 16
_CORRELATION = 0.985
_LEVELS = 4.0
_MIN_CONTRAST = 3.0
_ROWS_AT_ONCE = 256


def linked_copies(images: npt.NDArray[np.uint8], rows: Indices) -> Indices:
    """Return the pairs that link near copies into clusters.

    Pictures that are linked already are not compared again: of pictures that are all alike each
    one costs a row of memory, not a row for each other one.

    Args:
        images: uint8 ``(pictures, height, width, 3)``.
        rows: int64 ``(compared,)``, which of them to compare.

    Returns:
        int64 ``(pairs, 2)`` of values of ``rows``; fewer than there are rows.
    """
    thumbs = _thumbnails(images, rows)
    contrast = thumbs.std(axis=1)
    usable = np.flatnonzero(contrast >= _MIN_CONTRAST)
    thumbs = thumbs[usable]
    scaled = thumbs / (contrast[usable, None] * _SIDE)
    cluster = np.arange(len(usable))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(usable), _ROWS_AT_ONCE):
        alike = scaled[start : start + _ROWS_AT_ONCE] @ scaled[start:].T
        for row, likeness in enumerate(alike, start):
            others = row + 1 + np.flatnonzero(likeness[row + 1 - start :] >= _CORRELATION)
            others = others[cluster[others] != cluster[row]]
            gaps = thumbs[others]
            gaps -= thumbs[row]
            np.abs(gaps, out=gaps)  # in place: no second array of this size
            for other in others[gaps.mean(axis=1) <= _LEVELS].tolist():
                if cluster[other] != cluster[row]:
                    cluster[cluster == cluster[other]] = cluster[row]
                    pairs.append((row, other))
    return rows[usable[np.array(pairs, dtype=np.int64).reshape(-1, 2)]]


def _thumbnails(images: npt.NDArray[np.uint8], rows: Indices) -> npt.NDArray[np.float32]:
    """Return grey thumbnails without their means, float32 ``(compared, pixels)``."""
    thumbs = np.empty((len(rows), _SIDE * _SIDE), dtype=np.float32)
    for at, row in enumerate(rows.tolist()):
        grey = Image.fromarray(images[row]).convert("L")
        thumbs[at] = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX)).reshape(-1)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    return thumbs
