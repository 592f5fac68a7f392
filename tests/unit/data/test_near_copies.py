"""Near copies: which pictures are, and what finding them costs."""

from __future__ import annotations

import tracemalloc

import numpy as np

from edgeml.data.near_copies import linked_copies
from tests.unit.data.scenes import Picture, look_alikes, recompressed, scene


def _clusters(count: int, pairs: np.ndarray) -> list[int]:
    """The first picture of each one's cluster."""
    cluster = list(range(count))
    for one, other in pairs.tolist():
        cluster = [cluster[one] if label == cluster[other] else label for label in cluster]
    return [cluster.index(label) for label in cluster]


def _all_pairs(images: np.ndarray) -> np.ndarray:
    """The definition, pair by pair."""
    thumbs = np.stack([image.mean(axis=2) for image in images])
    thumbs = thumbs.reshape(len(images), 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(images), -1)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    alike = np.corrcoef(thumbs) >= 0.985
    gap = np.abs(thumbs[:, None] - thumbs[None]).mean(axis=2)
    return np.argwhere(np.triu(alike & (gap <= 4), 1))


def _with_contrast(image: Picture, share: float) -> Picture:
    return np.clip(128 + (image.astype(np.float64) - 128) * share, 0, 255).astype(np.uint8)


def test_the_links_join_what_the_definition_joins() -> None:
    images = [scene(seed) for seed in range(6)]
    images += [recompressed(image) for image in images[:3]]
    # The first two are too far from each other, and both near to each of the others.
    images += [_with_contrast(scene(9), share) for share in (0.94, 0.74, 0.84, 0.83)]
    images += [_with_contrast(scene(9), 0.4)]
    images += look_alikes(7, seed=30)
    images += [scene(40), recompressed(scene(40))]
    stack = np.stack(images)
    near = _all_pairs(stack)
    assert [pair for pair in near.tolist() if set(pair) <= {9, 10, 11, 12, 13}] == [
        [9, 11], [9, 12], [10, 11], [10, 12], [11, 12]
    ]  # fmt: skip
    wanted = _clusters(len(images), near)
    assert len(set(wanted)) == 6 + 2 + 1 + 1
    pairs = linked_copies(stack, np.arange(len(stack)))
    assert _clusters(len(images), pairs) == wanted
    assert len(pairs) == len(images) - len(set(wanted))


def test_only_the_rows_asked_for_are_compared() -> None:
    stack = np.stack([scene(0), scene(1), scene(0), scene(0)])
    assert linked_copies(stack, np.array([0, 1, 3])).tolist() == [[0, 3]]


def test_pictures_that_are_all_alike_cost_rows_not_pairs() -> None:
    count = 1500
    stack = np.stack(look_alikes(count, side=32))
    tracemalloc.start()
    pairs = linked_copies(stack, np.arange(count))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == count - 1
    # A thumbnail is 1 KiB; its values for each of the million pairs would be a gigabyte.
    assert peak < 7 * 1024 * count
