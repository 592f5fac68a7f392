"""Intervals by resampling users: a user's rows belong together, so users are what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.evaluation.impressions import auc

Array = npt.NDArray[Any]
_LEVELS = (2.5, 97.5)
_BLOCK_CELLS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % percentile-bootstrap interval.

    Attributes:
        value: The figure on all users.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return ``{value, interval}``."""
        return {"value": self.value, "interval": [self.low, self.high]}


def mean_interval(per_user: Array, *, resamples: int = 2_000, seed: int = 0) -> Interval:
    """Return the mean over users; NaN entries are users that the figure does not judge.

    For a paired comparison of two systems give the difference of their arrays.

    Args:
        per_user: float ``(users,)``.
        resamples: Bootstrap samples.
        seed: Of the resampling.

    Raises:
        InputError: No user is judged.
    """
    values = per_user[np.isfinite(per_user)]
    if values.size == 0:
        raise InputError("no user has a figure; held-out items of at least one user were expected")
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    step = max(1, _BLOCK_CELLS // values.size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picks = rng.integers(0, values.size, size=(count, values.size), dtype=np.int32)
        drawn[start : start + count] = values[picks].mean(axis=1)
    low, high = np.percentile(drawn, _LEVELS)
    return Interval(value=float(values.mean()), low=float(low), high=float(high))


def paired_interval(
    first: Array, second: Array, *, resamples: int = 2_000, seed: int = 0
) -> Interval:
    """Return the mean of ``first - second`` over the users that both judge.

    Raises:
        InputError: The numbers of users differ, or nobody is judged by both.
    """
    if first.shape != second.shape:
        raise InputError(f"{first.shape} and {second.shape} users; the same users were expected")
    return mean_interval(first - second, resamples=resamples, seed=seed)


def auc_interval(
    users: Array,
    labels: Array,
    scores: Array,
    *,
    baseline: Array | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Interval:
    """Return the AUC of logged impressions, or its difference to a baseline's on the same rows.

    Args:
        users: int64 ``(rows,)``.
        labels: 0 or 1 ``(rows,)``.
        scores: float ``(rows,)``.
        baseline: float ``(rows,)``: scores to compare with, pair by pair.
        resamples: Bootstrap samples.
        seed: Of the resampling.
    """

    def statistic(weights: Array | None) -> float:
        value = auc(labels, scores, weights=weights)
        return value if baseline is None else value - auc(labels, baseline, weights=weights)

    return clustered_interval(users, statistic, resamples=resamples, seed=seed)


def clustered_interval(
    users: Array,
    statistic: Callable[[Array | None], float],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Interval:
    """Return any figure of rows with an interval from drawing users.

    Args:
        users: int64 ``(rows,)``.
        statistic: From row weights (how often the row's user was drawn; None for once each) to
            the figure.
        resamples: Bootstrap samples.
        seed: Of the resampling.

    Raises:
        InputError: There are no rows.
    """
    if users.size == 0:
        raise InputError("no rows to judge; at least one was expected")
    _, user = np.unique(users, return_inverse=True)
    num_users = int(user.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)
        drawn.append(statistic(times[user]))
    low, high = np.nanpercentile(drawn, _LEVELS)
    return Interval(value=statistic(None), low=float(low), high=float(high))
