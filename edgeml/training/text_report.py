"""What a text classifier's answers on its validation part say, as JSON values; numpy only.

Arrays: ``logits`` float ``(samples, classes)``; ``targets`` int64 ``(samples,)``, or bool
``(samples, classes)`` where several labels may hold at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Targets = npt.NDArray[Any]

MIN_SAMPLES = 50
_TEMPERATURES = (0.05, 20.0)
_BINS = 15
_HARDEST = 20
_TEXT_CHARACTERS = 300
_GOLDEN = (5**0.5 - 1) / 2


def probabilities(logits: Floats, *, multi_label: bool, temperature: float = 1.0) -> Floats:
    """Return float64 probabilities: softmax, or a sigmoid each where several labels may hold."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if multi_label:
        return np.exp(-np.logaddexp(0, -scaled))
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def negative_log_likelihood(logits: Floats, targets: Targets, *, temperature: float = 1.0) -> float:
    """Return the mean over samples; over samples and labels where several may hold."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if targets.ndim == 2:
        return float(np.logaddexp(0, np.where(targets, -scaled, scaled)).mean())
    total = np.logaddexp.reduce(scaled, axis=1)
    return float((total - scaled[np.arange(len(targets)), targets]).mean())


def accuracy_of(logits: Floats, targets: Targets) -> float:
    """Return the share of samples whose label, or whose whole set of labels, is right."""
    return float(_right(logits, targets).mean())


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """Return the temperature that makes the answers most likely; 1.0 from fewer than 50 samples.

    The likelihood has one maximum, so a golden-section search over the logarithm finds it.
    """
    if len(targets) < MIN_SAMPLES:
        return 1.0

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(logits, targets, temperature=float(np.exp(log_temperature)))

    found = _minimum(cost, *np.log(_TEMPERATURES).tolist())
    return float(np.clip(np.exp(found), *_TEMPERATURES))


def calibration_error(chances: Floats, targets: Targets) -> float:
    """Return the expected calibration error over fifteen bins of equal width.

    The confidence is that of the label given; where several labels may hold, each label's.
    """
    if targets.ndim == 2:
        confidence, right = chances.ravel(), targets.ravel()
    else:
        confidence, right = chances.max(axis=1), chances.argmax(axis=1) == targets
    bins = np.clip((confidence * _BINS).astype(np.int64), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gap = np.bincount(bins, confidence, _BINS) - np.bincount(bins, right.astype(float), _BINS)
    return float(np.abs(gap).sum() / max(1, counts.sum()))


def class_rows(logits: Floats, targets: Targets, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of each class; 0 where there is nothing to count."""
    held, given = _indicators(logits, targets)
    rows = []
    for index, label in enumerate(labels):
        both = int((held[:, index] & given[:, index]).sum())
        support, predicted = int(held[:, index].sum()), int(given[:, index].sum())
        rows.append(
            {
                "label": label,
                "precision": both / predicted if predicted else 0.0,
                "recall": both / support if support else 0.0,
                "f1": 2 * both / (support + predicted) if support + predicted else 0.0,
                "support": support,
            }
        )
    return rows


def macro_f1(logits: Floats, targets: Targets) -> float:
    """Return the mean F1 of the classes."""
    names = [""] * logits.shape[1]
    return float(np.mean([row["f1"] for row in class_rows(logits, targets, names)]))


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
        "confusion": _confusion(logits, targets),
        "classes": class_rows(logits, targets, labels),
        "hardest": _hardest(chances, logits, targets, texts, labels),
        "truncation": _truncation(_right(logits, targets), np.asarray(truncated, dtype=bool)),
    }


def _indicators(
    logits: Floats, targets: Targets
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which labels hold and which were given, bool ``(samples, classes)`` each."""
    if targets.ndim == 2:
        return targets.astype(bool), logits >= 0
    classes = np.arange(logits.shape[1])
    return targets[:, None] == classes, logits.argmax(axis=1)[:, None] == classes


def _right(logits: Floats, targets: Targets) -> npt.NDArray[np.bool_]:
    held, given = _indicators(logits, targets)
    return np.asarray((held == given).all(axis=1))


def _minimum(cost: Callable[[float], float], low: float, high: float) -> float:
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > 1e-5:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = cost(right)
    return (low + high) / 2


def _confusion(logits: Floats, targets: Targets) -> Any:
    held, given = _indicators(logits, targets)
    if targets.ndim == 1:
        return (held.T.astype(np.int64) @ given.astype(np.int64)).tolist()
    pairs = ((~held, ~given), (~held, given), (held, ~given), (held, given))
    counts = np.stack([(one & other).sum(axis=0) for one, other in pairs], axis=1)
    return counts.reshape(-1, 2, 2).tolist()


def _hardest(
    chances: Floats,
    logits: Floats,
    targets: Targets,
    texts: Sequence[str],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the errors that the model was surest of; ``probability`` is that of its answer."""
    held, given = _indicators(logits, targets)
    if targets.ndim == 2:
        wrong = np.where(held != given, np.where(given, chances, 1 - chances), 0)
        sure = wrong.max(axis=1)
    else:
        sure = chances.max(axis=1)
    errors = np.flatnonzero(~_right(logits, targets))
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
