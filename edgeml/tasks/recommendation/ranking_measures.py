"""How well scores rank: AUC, NDCG and overlap of two rankings. Numpy only, ties handled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]


def area_under_curve(labels: npt.NDArray[Any], scores: Numbers) -> float:
    """Return the share of (positive, negative) pairs in the right order; a tie counts half.

    Args:
        labels: ``(rows,)``, 1 and 0.
        scores: ``(rows,)``.

    Returns:
        NaN where all labels are alike.
    """
    positive = np.asarray(labels) > 0.5
    count = int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    # Ranks from 1; tied scores share the mean of theirs.
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    below = ranks[positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(positive) - count)))


def groups_of(groups: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the row numbers of each group."""
    order = np.argsort(groups, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def top_of(scores: Numbers, k: int) -> npt.NDArray[np.int64]:
    """Return the positions of the ``k`` highest scores, best first; of ties the earlier one."""
    return np.argsort(-scores, kind="stable")[:k]


def mean_ndcg(
    labels: npt.NDArray[Any], scores: Numbers, groups: npt.NDArray[np.int64], *, k: int = 10
) -> float:
    """Return the mean NDCG@k over the groups that hold both a positive and another row.

    Args:
        labels: ``(rows,)``, 1 and 0.
        scores: ``(rows,)``.
        groups: int64 ``(rows,)``.
        k: Cut.

    Returns:
        NaN where no group counts.
    """
    discount = 1 / np.log2(np.arange(k) + 2)
    found = []
    for rows in groups_of(groups):
        positive = int((labels[rows] > 0.5).sum())
        if not 0 < positive < len(rows):
            continue
        gains = labels[rows][top_of(scores[rows], k)] > 0.5
        best = discount[: min(positive, k)].sum()
        found.append(float((gains * discount[: len(gains)]).sum() / best))
    return float(np.mean(found)) if found else float("nan")


def mean_overlap(
    scores: Numbers, others: Numbers, groups: npt.NDArray[np.int64], *, k: int = 10
) -> float:
    """Return the mean share of the ``k`` best that two scorings have in common.

    Groups of at most ``k`` rows agree whatever the scores are, and do not count.

    Returns:
        NaN where no group counts.
    """
    found = [
        len(np.intersect1d(top_of(scores[rows], k), top_of(others[rows], k))) / k
        for rows in groups_of(groups)
        if len(rows) > k
    ]
    return float(np.mean(found)) if found else float("nan")
