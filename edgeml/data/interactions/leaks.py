"""Columns that leak the label: what is known only after an item was shown is no feature.

Two nets. By name: columns that hold outcomes in public short-video logs are refused as features of
the log. By figure: a single column that alone orders train's labels nearly perfectly is reported.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError

# Outcomes by the names they have in KuaiRand and its derivatives, and in logs like it.
OUTCOMES = (
    "is_*",
    "like",
    "long_view",
    "long_watch",
    "watch_ratio",
    "finish",
    "play_time_ms",
    "*_stay_time",
    "is_positive",
    "source_file",
)
SUSPICIOUS_AUC = 0.95


def refuse_leak(column: str, *, source: str, known_before: bool) -> None:
    """Refuse a feature whose name says that it is an outcome.

    Args:
        column: The log's column.
        source: The schema, for messages.
        known_before: Whether its owner declares that it is known before the item is shown.

    Raises:
        DataError: The name is that of an outcome, and nobody declared otherwise.
    """
    pattern = next((row for row in OUTCOMES if fnmatch.fnmatchcase(column.lower(), row)), None)
    if pattern is not None and not known_before:
        raise DataError(
            source=source,
            reason=(
                f"column '{column}' would leak the label: names like '{pattern}' hold what is "
                "known only after an item was shown; declare it as a signal, leave it out, or "
                "write 'known_before: true' beside it"
            ),
        )


def suspicious_columns(
    columns: Mapping[str, npt.NDArray[np.float64]], labels: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Return the columns that alone order the labels too well, with their AUC.

    Args:
        columns: Name to float64 ``(rows,)``; codes of a category count by their share of positives
            in the other half of the rows.
        labels: bool ``(rows,)``.
    """
    found = {}
    for name, values in columns.items():
        area = _auc(labels, values)
        strength = max(area, 1 - area)
        if strength >= SUSPICIOUS_AUC:
            found[name] = round(strength, 4)
    return found


def shares_of_codes(
    codes: npt.NDArray[np.int64], labels: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return each row's share of positives among the rows of its code in the other half."""
    half = np.arange(len(codes)) % 2
    size = int(codes.max(initial=0)) + 1
    shares = np.empty(len(codes))
    for part in (0, 1):
        other = half != part
        count = np.bincount(codes[other], minlength=size)
        sums = np.bincount(codes[other], weights=labels[other], minlength=size)
        rate = (sums + labels.mean()) / (count + 1)
        shares[half == part] = rate[codes[half == part]]
    return shares


def _auc(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    """Return the area under the ROC curve, ties counted half; 0.5 where there is one class."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return 0.5
    _, inverse, counts = np.unique(np.nan_to_num(values), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks = middle[inverse]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
