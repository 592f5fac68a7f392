"""What a text classifier's answers on its validation part say, as JSON values; numpy only.

Arrays: ``logits`` float ``(samples, classes)``; ``targets`` int64 ``(samples,)``, or bool
``(samples, classes)`` where several labels may hold at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.training.figures import (
    Floats,
    Targets,
    accuracy_of,
    calibration_error,
    class_rows,
    confusion,
    fit_temperature,
    indicators,
    macro_f1,
    probabilities,
    right_answers,
)

_HARDEST = 20
_TEXT_CHARACTERS = 300


def text_report(
    logits: Floats,
    targets: Targets,
    *,
    texts: Sequence[str],
    truncated: Sequence[bool],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Describe a classifier's answers on its validation part.

    Args:
        logits: float ``(samples, classes)``.
        targets: The right answers.
        texts: The texts.
        truncated: Whether each was cut to fit the model.
        labels: Class names in index order.

    Returns:
        Temperature, calibration error before and after it, confusion matrix (rows are right,
        columns given; for several labels one of two by two each), figures of each class, the
        hardest errors and what truncation cost, as JSON values.
    """
    multi_label = targets.ndim == 2
    temperature = fit_temperature(logits, targets)
    before = probabilities(logits, multi_label=multi_label)
    chances = probabilities(logits, multi_label=multi_label, temperature=temperature)
    return {
        "samples": len(targets),
        "accuracy": accuracy_of(logits, targets),
        "macro_f1": macro_f1(logits, targets),
        "temperature": temperature,
        "calibration_error": {
            "before": calibration_error(before, targets),
            "after": calibration_error(chances, targets),
        },
        "confusion": confusion(logits, targets),
        "classes": class_rows(logits, targets, labels),
        "hardest": _hardest(chances, logits, targets, texts, labels),
        "truncation": _truncation(
            right_answers(logits, targets), np.asarray(truncated, dtype=bool)
        ),
    }


def _hardest(
    chances: Floats,
    logits: Floats,
    targets: Targets,
    texts: Sequence[str],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the errors that the model was surest of; ``probability`` is that of its answer."""
    held, given = indicators(logits, targets)
    if targets.ndim == 2:
        wrong = np.where(held != given, np.where(given, chances, 1 - chances), 0)
        sure = wrong.max(axis=1)
    else:
        sure = chances.max(axis=1)
    errors = np.flatnonzero(~right_answers(logits, targets))
    rows = []
    order = errors[np.argsort(-sure[errors], kind="stable")]
    for index in order[:_HARDEST].tolist():
        right, answer = (
            [labels[at] for at in np.flatnonzero(side[index]).tolist()] for side in (held, given)
        )
        rows.append(
            {
                "text": texts[index][:_TEXT_CHARACTERS],
                "right": right if targets.ndim == 2 else right[0],
                "given": answer if targets.ndim == 2 else answer[0],
                "probability": float(sure[index]),
            }
        )
    return rows


def _truncation(right: npt.NDArray[np.bool_], truncated: npt.NDArray[np.bool_]) -> dict[str, Any]:
    def mean(part: npt.NDArray[np.bool_]) -> float | None:
        return float(part.mean()) if len(part) else None

    return {
        "cut": int(truncated.sum()),
        "accuracy_cut": mean(right[truncated]),
        "accuracy_uncut": mean(right[~truncated]),
    }
