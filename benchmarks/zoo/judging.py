"""The equal gate: every file on the same samples, one by one, against the float32 file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.zoo.opening import Call
from benchmarks.zoo.recipes.job import Feed, feeds_of
from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy

Labels = npt.NDArray[np.int64]


def judge(
    candidate: Call, reference: Call, *, inputs: Feed, labels: Labels | None, first: int
) -> dict[str, Any]:
    """Judge a file on all samples but those that recipes calibrate on.

    Args:
        candidate: The file.
        reference: The float32 file.
        inputs: All samples.
        labels: int64 ``(samples,)``; None judges by the error relative to float32, as the library
            does for outputs that are no class scores.
        first: First sample that counts.

    Returns:
        ``passed`` and the figures behind it: ``drop`` and its counts, or ``relative_error`` and
        ``flips`` of the best class, pixel by pixel.
    """
    samples = range(first, len(next(iter(inputs.values()))))
    if labels is None:
        return _by_agreement(candidate, reference, inputs, samples)
    ours = np.array([_class(candidate(feed)) for feed in feeds_of(inputs, samples)])
    theirs = np.array([_class(reference(feed)) for feed in feeds_of(inputs, samples)])
    return by_accuracy(ours, theirs, labels[first:])


def by_accuracy(ours: Labels, theirs: Labels, labels: Labels) -> dict[str, Any]:
    """Judge predicted classes, int64 ``(samples,)`` each, against the reference's."""
    paired = compare_accuracy(theirs == labels, ours == labels)
    passed, reason = Gate().judge_accuracy(paired)
    return {
        "passed": passed,
        "reason": reason,
        "drop": paired.drop,
        "accuracy": paired.candidate,
        "flips": float(np.mean(ours != theirs)),
        "paired": asdict(paired),
    }


def _by_agreement(candidate: Call, reference: Call, inputs: Feed, samples: range) -> dict[str, Any]:
    errors = size = 0.0
    flips = []
    for feed in feeds_of(inputs, samples):
        theirs = reference(feed).astype(np.float64)
        ours = candidate(feed).astype(np.float64)
        errors += float(np.square(theirs - ours).sum())
        size += float(np.square(theirs).sum())
        flips.append(float(np.mean(ours.argmax(axis=1) != theirs.argmax(axis=1))))
    error, limit = float(np.sqrt(errors / size)), Gate().max_relative_error
    return {
        "passed": bool(error <= limit),
        "reason": f"relative error {error:.3g} of {limit} allowed ({len(samples)} samples)",
        "drop": None,
        "accuracy": None,
        "flips": float(np.mean(flips)),
        "relative_error": error if np.isfinite(error) else None,
    }


def _class(logits: npt.NDArray[Any]) -> int:
    return int(logits[0].argmax())
