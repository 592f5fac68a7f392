"""Figures by segment: new and old users, rare and popular items."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.evaluation.intervals import mean_interval
from edgeml.recommending.evaluation.rankings import PerUser
from edgeml.recommending.retrieval.histories import Histories, IntArray


def by_segment(
    per_user: PerUser, segments: npt.NDArray[Any], *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return each figure's mean and interval within each segment of users.

    Args:
        per_user: Figure to float ``(users,)``.
        segments: ``(users,)``: the segment of each user; an empty name leaves a user out.
        seed: Of the bootstrap.

    Returns:
        Segment to ``{num_users, <figure>, <figure>_interval}``, segments in sorted order. A
        segment whose users the figures do not judge is left out.

    Raises:
        InputError: The numbers of users differ.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, values in per_user.items():
        if values.shape != segments.shape:
            raise InputError(
                f"{segments.size} segments for {values.size} users; one a user was expected"
            )
        for segment in np.unique(segments):
            chosen = values[(segments == segment) & np.isfinite(values)]
            if str(segment) == "" or chosen.size == 0:
                continue
            interval = mean_interval(chosen, seed=seed)
            row = rows.setdefault(str(segment), {"num_users": int(chosen.size)})
            row[name] = interval.value
            row[f"{name}_interval"] = [interval.low, interval.high]
    return rows


def history_segments(histories: Histories) -> npt.NDArray[np.str_]:
    """Return each user's segment by the length of the history, str ``(users,)``.

    Five bands with fixed bounds, so that figures of different logs can be compared.
    """
    bounds = np.array([1, 6, 21, 101])
    names = np.array(["0 items", "1-5 items", "6-20 items", "21-100 items", "over 100 items"])
    return names[np.digitize(histories.lengths, bounds)]


def only_items(relevant: Histories, wanted: npt.NDArray[np.bool_]) -> Histories:
    """Return the held-out items that belong to a segment of items.

    With these as relevant items, ``ranking_metrics`` says how well that segment is served.

    Args:
        relevant: One row a user.
        wanted: bool ``(num_items,)``; items that it does not reach are not wanted.
    """
    known = relevant.items < wanted.size
    keep = np.zeros(relevant.items.size, dtype=np.bool_)
    keep[known] = wanted[relevant.items[known]]
    lengths = np.bincount(relevant.row_of_event[keep], minlength=len(relevant))
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=relevant.items[keep],
        users=relevant.users,
    )


def popular_items(counts: npt.NDArray[Any], *, share: float = 0.8) -> npt.NDArray[np.bool_]:
    """Return the fewest most chosen items that hold a share of all interactions.

    Args:
        counts: ``(num_items,)`` interactions in the training log.
        share: Share of the interactions.

    Returns:
        bool ``(num_items,)``; the others are the long tail.
    """
    order: IntArray = np.argsort(-counts, kind="stable")
    reached = np.cumsum(counts[order]) / max(float(counts.sum()), 1.0)
    popular = np.zeros(counts.size, dtype=np.bool_)
    popular[order[: int(np.searchsorted(reached, share)) + 1]] = True
    popular[0] = False
    return popular
