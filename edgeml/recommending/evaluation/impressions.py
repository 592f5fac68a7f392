"""Scores of logged impressions: AUC, AUC within users, log loss.

These figures are conditioned on the policy that chose what was shown. They say how well a ranker
orders what that policy picked, and nothing about items that it never showed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError

Array = npt.NDArray[Any]
CONDITIONED_ON = "the logging policy: only items that it showed were judged"
_SMALLEST_PROBABILITY = 1e-7


def auc(labels: Array, scores: Array, *, weights: Array | None = None) -> float:
    """Return the probability that a positive row scores above a negative one, ties half.

    Args:
        labels: 0 or 1 ``(rows,)``.
        scores: float ``(rows,)``.
        weights: ``(rows,)`` of how often a row counts; by default once.

    Returns:
        NaN where one of the classes is missing.

    Raises:
        InputError: Lengths differ, a label is neither 0 nor 1, or a score is NaN.

    Example:
        >>> auc(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.1]))
        0.75
    """
    check_rows(labels, scores)
    counts = np.ones(labels.size) if weights is None else np.asarray(weights, dtype=np.float64)
    levels, level = np.unique(scores, return_inverse=True)
    positive = np.bincount(level, weights=counts * labels, minlength=levels.size)
    negative = np.bincount(level, weights=counts * (1 - labels), minlength=levels.size)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def gauc(users: Array, labels: Array, scores: Array) -> float:
    """Return the AUC within each user's rows, averaged by the number of the user's rows.

    Users with one class only have no order to judge and are left out.

    Args:
        users: int64 ``(rows,)``.
        labels: 0 or 1 ``(rows,)``.
        scores: float ``(rows,)``.
    """
    values, rows = user_auc(users, labels, scores)
    judged = np.isfinite(values)
    return float(np.average(values[judged], weights=rows[judged])) if judged.any() else float("nan")


def user_auc(
    users: Array, labels: Array, scores: Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return each user's AUC (NaN with one class) and number of rows, by ascending user.

    Args:
        users: int64 ``(rows,)``.
        labels: 0 or 1 ``(rows,)``.
        scores: float ``(rows,)``.
    """
    check_rows(labels, scores)
    _, user, num_rows = np.unique(users, return_inverse=True, return_counts=True)
    # Rank sums: average ranks within each user, ties sharing theirs.
    order = np.lexsort((scores, user))
    place = np.arange(order.size, dtype=np.float64)
    ordered_user, ordered_score = user[order], scores[order]
    starts = np.r_[
        True, (ordered_user[1:] != ordered_user[:-1]) | (ordered_score[1:] != ordered_score[:-1])
    ]
    tie = np.cumsum(starts) - 1
    average = np.bincount(tie, weights=place) / np.bincount(tie)
    first = (np.cumsum(num_rows) - num_rows)[ordered_user]
    rank = average[tie] - first + 1
    label = labels[order].astype(np.float64)
    size = num_rows.size
    positive = np.bincount(ordered_user, weights=label, minlength=size)
    sums = np.bincount(ordered_user, weights=label * rank, minlength=size)
    pairs = positive * (num_rows - positive)
    values = (sums - positive * (positive + 1) / 2) / np.where(pairs > 0, pairs, 1)
    return np.where(pairs > 0, values, np.nan), num_rows


def log_loss(labels: Array, probabilities: Array) -> float:
    """Return the mean negative log likelihood, probabilities cut to 1e-7 from both ends.

    Raises:
        InputError: A probability is outside 0 to 1, or the rows do not fit.
    """
    check_rows(labels, probabilities)
    if probabilities.size and (probabilities.min() < 0 or probabilities.max() > 1):
        raise InputError("a probability is outside 0 to 1; calibrated probabilities were expected")
    sure = np.clip(
        probabilities.astype(np.float64), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY
    )
    return float(-np.mean(labels * np.log(sure) + (1 - labels) * np.log1p(-sure)))


def impression_metrics(
    users: Array, labels: Array, scores: Array, *, probabilities: Array | None = None
) -> dict[str, Any]:
    """Return the figures of logged impressions, labelled with what they are conditioned on.

    Args:
        users: int64 ``(rows,)``.
        labels: 0 or 1 ``(rows,)``.
        scores: float ``(rows,)``: any scale.
        probabilities: float ``(rows,)``, for the log loss.
    """
    figures: dict[str, Any] = {
        "auc": auc(labels, scores),
        "gauc": gauc(users, labels, scores),
        "num_impressions": int(labels.size),
        "num_users": int(np.unique(users).size),
        "positive_rate": float(np.mean(labels)),
        "conditioned_on": CONDITIONED_ON,
    }
    if probabilities is not None:
        figures["log_loss"] = log_loss(labels, probabilities)
        figures["mean_probability"] = float(np.mean(probabilities))
    return figures


def check_rows(labels: Array, scores: Array) -> None:
    """Refuse labels and scores that cannot be judged.

    Raises:
        InputError: See ``auc``.
    """
    if labels.shape != scores.shape or labels.ndim != 1 or labels.size == 0:
        raise InputError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape}; "
            "two non-empty columns of one length were expected"
        )
    if not np.isin(labels, (0, 1)).all():
        raise InputError("a label is neither 0 nor 1; leave rows without a label out")
    if np.isnan(scores).any():
        raise InputError("a score is NaN; finite scores were expected: look at the ranker's input")
