"""Full rankings against held-out items, user by user, as RecBole defines the figures.

Every item of the catalogue competes; nothing is sampled. Figures are kept a user, so that means,
intervals, segments and paired comparisons all come from one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.retrieval.histories import Histories, IntArray

PerUser = Mapping[str, npt.NDArray[np.float64]]


def ranking_metrics(top_items: IntArray, relevant: Histories, *, k: int = 10) -> PerUser:
    """Compare each user's best items with the held-out ones.

    With relevant items counted once and gain 1 each: NDCG divides by the best DCG that
    ``min(k, relevant items)`` hits can reach; recall divides by the number of relevant items;
    precision by ``k``; MRR is one over the rank of the first hit, 0 without one.

    Args:
        top_items: int64 ``(users, at least k)`` item codes, best first; 0 is an empty place.
        relevant: One row a user; items that the catalogue lacks count as missed.
        k: Places that count.

    Returns:
        float64 ``(users,)`` a figure, NaN for users without a relevant item; the names end in
        ``_at_k``.

    Raises:
        InputError: The numbers of users differ, or fewer than ``k`` places are given.

    Example:
        >>> figures = ranking_metrics(np.array([[7, 3, 5]]), Histories.of([[3, 9]]), k=3)
        >>> round(float(figures["ndcg_at_3"][0]), 4), float(figures["recall_at_3"][0])
        (0.3869, 0.5)
    """
    if k < 1 or top_items.ndim != 2 or top_items.shape[1] < k:
        raise InputError(
            f"top items of shape {top_items.shape} for k = {k}; (users, at least k) was expected"
        )
    hits = hits_of(top_items[:, :k], relevant)
    num_relevant = relevant.distinct().lengths
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(num_relevant, k)]
    first = np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1.0), 0.0)
    count = hits.sum(axis=1)
    figures = {
        "ndcg": (hits * discounts).sum(axis=1) / np.where(best > 0, best, 1),
        "recall": count / np.maximum(num_relevant, 1),
        "hit": (count > 0).astype(np.float64),
        "mrr": first,
        "precision": count / k,
    }
    judged = num_relevant > 0
    return {f"{name}_at_{k}": np.where(judged, value, np.nan) for name, value in figures.items()}


def hits_of(top_items: IntArray, relevant: Histories) -> npt.NDArray[np.bool_]:
    """Return which places hold a relevant item, bool ``top_items.shape``.

    Raises:
        InputError: The numbers of users differ, or a row names an item twice.
    """
    if len(top_items) != len(relevant):
        raise InputError(
            f"rankings of {len(top_items)} users and relevant items of {len(relevant)}; "
            "one row a user in both was expected"
        )
    width = 1 + max(int(top_items.max(initial=0)), int(relevant.items.max(initial=0)))
    rows = np.arange(len(relevant), dtype=np.int64)[:, None]
    cells = rows * width + top_items
    ordered = np.sort(top_items, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any():
        raise InputError("a ranking names an item twice; each item once was expected")
    wanted = relevant.row_of_event * width + relevant.items
    return np.isin(cells, wanted) & (top_items > 0)


def recall_ceiling(candidates: IntArray, relevant: Histories) -> npt.NDArray[np.float64]:
    """Return the share of each user's relevant items among the candidates.

    No ranker can find what retrieval did not hand on: this is the ceiling of everything after.

    Args:
        candidates: int64 ``(users, candidates)`` item codes, 0 being an empty place.
        relevant: One row a user.

    Returns:
        float64 ``(users,)``, NaN for users without a relevant item.
    """
    found = hits_of(candidates, relevant).sum(axis=1)
    total = relevant.distinct().lengths
    return np.where(total > 0, found / np.maximum(total, 1), np.nan)


def means(per_user: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Return each figure's mean over the users who have one; NaN where nobody has."""
    return {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in per_user.items()
    }
