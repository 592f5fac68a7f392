"""What accuracy does not see: coverage, concentration, novelty, diversity, popularity bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.retrieval.histories import Histories, IntArray

Array = npt.NDArray[Any]


def beyond_accuracy(
    top_items: IntArray,
    *,
    counts: Array,
    item_vectors: Array | None = None,
    histories: Histories | None = None,
) -> dict[str, float]:
    """Describe the lists that a system hands out.

    Args:
        top_items: int64 ``(users, k)`` item codes, 0 being an empty place.
        counts: ``(num_items,)``: interactions of each item in the training log.
        item_vectors: float ``(num_items, dimension)``: what makes two items alike (genres,
            embeddings of another model), for the diversity.
        histories: The users' training items, for the popularity bias.

    Returns:
        ``coverage``: share of the catalogue in anybody's list. ``gini``: concentration of the
        places over the catalogue, 0 even, 1 a single item. ``novelty``: mean of ``-log2`` of the
        share of training interactions of a listed item, in bits. ``intra_list_diversity``: mean
        over users of one minus the cosine of each pair in the list. ``popularity_bias``: mean
        training count of listed items over that of the users' own items, minus 1.

    Raises:
        InputError: An item code is outside the catalogue.
    """
    num_items = counts.size
    if top_items.size and int(top_items.max()) >= num_items:
        raise InputError(f"item code {int(top_items.max())} is outside the {num_items} known ones")
    shown = top_items[top_items > 0]
    exposure = np.bincount(shown, minlength=num_items)[1:]
    share = (counts[shown] + 1) / (counts[1:].sum() + num_items - 1)  # one more each: never zero
    figures = {
        "coverage": float((exposure > 0).mean()),
        "gini": gini(exposure),
        "novelty": float(-np.log2(share).mean()) if shown.size else float("nan"),
    }
    if item_vectors is not None:
        figures["intra_list_diversity"] = float(
            np.nanmean(intra_list_diversity(top_items, item_vectors))
        )
    if histories is not None and histories.items.size and shown.size:
        own = float(counts[histories.items].mean())
        figures["popularity_bias"] = float(counts[shown].mean()) / own - 1
    return figures


def gini(exposure: Array) -> float:
    """Return the Gini index of how often each item is shown.

    Example:
        >>> gini(np.array([5, 5, 5, 5])), gini(np.array([0, 0, 0, 8]))
        (0.0, 0.75)
    """
    total = exposure.sum()
    if total == 0:
        return float("nan")
    ordered = np.sort(exposure)
    weights = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return float((weights * ordered).sum() / (ordered.size * total))


def intra_list_diversity(top_items: IntArray, item_vectors: Array) -> npt.NDArray[np.float64]:
    """Return one minus the mean cosine of the pairs in each list.

    Args:
        top_items: int64 ``(users, k)``, 0 being an empty place.
        item_vectors: float ``(num_items, dimension)``; an item without a direction is unlike all.

    Returns:
        float64 ``(users,)``, NaN for lists of fewer than two items.
    """
    norms = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    unit = item_vectors / np.where(norms > 0, norms, 1)
    placed = top_items > 0
    listed = unit[top_items] * placed[:, :, None]
    sums = listed.sum(axis=1)
    own = (listed**2).sum(axis=(1, 2))
    count = placed.sum(axis=1)
    pairs = count * (count - 1)
    cosine = ((sums**2).sum(axis=1) - own) / np.where(pairs > 0, pairs, 1)
    return np.where(pairs > 0, 1 - cosine, np.nan).astype(np.float64)
