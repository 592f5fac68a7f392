"""Figures of a classifier's answers on labelled samples; numpy only, for pictures and texts.

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
_CELLS_AT_ONCE = 1 << 22
_FITTED_CELLS = 1 << 23
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
    if targets.ndim == 2:
        scaled = np.asarray(logits, dtype=np.float64) / temperature
        return float(np.logaddexp(0, np.where(targets, -scaled, scaled)).mean())
    losses = []
    for rows in _blocks(logits):
        scaled, right = np.asarray(logits[rows], dtype=np.float64) / temperature, targets[rows]
        highest = scaled.max(axis=1)
        total = np.log(np.exp(scaled - highest[:, None]).sum(axis=1)) + highest
        losses.append(total - scaled[np.arange(len(right)), right])
    return float(np.concatenate(losses).mean())


def accuracy_of(logits: Floats, targets: Targets) -> float:
    """Return the share of samples whose label, or whose whole set of labels, is right."""
    return float(right_answers(logits, targets).mean())


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """Return the temperature that makes the answers most likely; 1.0 from fewer than 50 samples.

    The likelihood has one maximum, so a golden-section search over the logarithm finds it. Of very
    many samples and classes a draw is enough: it goes over them some thirty times.
    """
    if len(targets) < MIN_SAMPLES:
        return 1.0
    most = max(MIN_SAMPLES, _FITTED_CELLS // logits.shape[1])
    if len(targets) > most:
        drawn = np.sort(np.random.default_rng(0).permutation(len(targets))[:most])
        logits, targets = logits[drawn], targets[drawn]

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(logits, targets, temperature=float(np.exp(log_temperature)))

    found = _minimum(cost, *np.log(_TEMPERATURES).tolist())
    return float(np.clip(np.exp(found), *_TEMPERATURES))


def confidences(logits: Floats, *, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the probability of each sample's likeliest class, float64 ``(samples,)``."""
    parts = [
        probabilities(logits[rows], multi_label=False, temperature=temperature).max(axis=1)
        for rows in _blocks(logits)
    ]
    return np.concatenate(parts)


def calibration_error(chances: Floats, targets: Targets) -> float:
    """Return the expected calibration error over fifteen bins of equal width.

    The confidence is that of the label given; where several labels may hold, each label's.
    """
    if targets.ndim == 2:
        return binned_error(chances.ravel(), targets.ravel())
    return binned_error(chances.max(axis=1), chances.argmax(axis=1) == targets)


def binned_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Return the same error of confidences, float ``(samples,)``, of answers right or wrong."""
    bins = np.clip((confidence * _BINS).astype(np.int64), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gap = np.bincount(bins, confidence, _BINS) - np.bincount(bins, right.astype(float), _BINS)
    return float(np.abs(gap).sum() / max(1, counts.sum()))


def class_rows(logits: Floats, targets: Targets, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of each class; 0 where there is nothing to count."""
    both, supports, predictions = _counts(logits, targets)
    return [
        {
            "label": label,
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / support if support else 0.0,
            "f1": 2 * hits / (support + predicted) if support + predicted else 0.0,
            "support": support,
        }
        for label, hits, support, predicted in zip(
            labels, both.tolist(), supports.tolist(), predictions.tolist(), strict=True
        )
    ]


def macro_f1(logits: Floats, targets: Targets) -> float:
    """Return the mean F1 of the classes."""
    names = [""] * logits.shape[1]
    return float(np.mean([row["f1"] for row in class_rows(logits, targets, names)]))


def _counts(
    logits: Floats, targets: Targets
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return hits, right answers and given answers of each class, int64 ``(classes,)`` each."""
    classes = logits.shape[1]
    if targets.ndim == 2:
        held, given = indicators(logits, targets)
        return (held & given).sum(axis=0), held.sum(axis=0), given.sum(axis=0)
    answers = logits.argmax(axis=1)
    hits = np.bincount(targets[answers == targets], minlength=classes)
    return hits, np.bincount(targets, minlength=classes), np.bincount(answers, minlength=classes)


def indicators(
    logits: Floats, targets: Targets
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which labels hold and which were given, bool ``(samples, classes)`` each."""
    if targets.ndim == 2:
        return targets.astype(bool), logits >= 0
    classes = np.arange(logits.shape[1])
    return targets[:, None] == classes, logits.argmax(axis=1)[:, None] == classes


def right_answers(logits: Floats, targets: Targets) -> npt.NDArray[np.bool_]:
    """Return whether each answer is right, bool ``(samples,)``."""
    if targets.ndim == 1:
        return np.asarray(logits.argmax(axis=1) == targets)
    held, given = indicators(logits, targets)
    return np.asarray((held == given).all(axis=1))


def _blocks(logits: Floats) -> list[slice]:
    """Return rows that are worked on together: of many classes, few, for the memory's sake."""
    step = max(1, _CELLS_AT_ONCE // max(1, logits.shape[1]))
    return [slice(start, start + step) for start in range(0, len(logits), step)]


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


def confusion(logits: Floats, targets: Targets) -> Any:
    """Return counts, right classes by given ones; for several labels two by two for each."""
    if targets.ndim == 1:
        counts = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
        np.add.at(counts, (targets, logits.argmax(axis=1)), 1)
        return counts.tolist()
    held, given = indicators(logits, targets)
    pairs = ((~held, ~given), (~held, given), (held, ~given), (held, given))
    counts = np.stack([(one & other).sum(axis=0) for one, other in pairs], axis=1)
    return counts.reshape(-1, 2, 2).tolist()
