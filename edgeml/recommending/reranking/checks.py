"""What both re-rankers ask of their input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError

Numbers = npt.NDArray[np.float64]


def checked(
    scores: npt.NDArray[Any], vectors: npt.NDArray[Any], k: int, weight: float
) -> tuple[Numbers, Numbers, int]:
    """Return relevance between 0 and 1, vectors of length 1, and how many are picked.

    Args:
        scores: ``(candidates,)``.
        vectors: ``(candidates, dimensions)``; a vector of zeros is like no other.
        k: Picks; more than there are candidates means all of them.
        weight: Of relevance, 0 to 1.

    Raises:
        InputError: The arrays do not fit together or hold NaN or infinity, or a number is out of
            its range.
    """
    if k < 1:
        raise InputError(f"k is {k}; at least 1", got=k)
    if not 0 <= weight <= 1:
        raise InputError(f"the weight of relevance is {weight}; 0 to 1", got=weight)
    scores, vectors = np.asarray(scores, np.float64), np.asarray(vectors, np.float64)
    if scores.ndim != 1 or vectors.ndim != 2 or len(scores) != len(vectors):
        raise InputError(
            f"scores of shape {scores.shape} and vectors of shape {vectors.shape}; one score and "
            "one vector a candidate were expected"
        )
    if not (np.isfinite(scores).all() and np.isfinite(vectors).all()):
        raise InputError("a score or a vector holds NaN or infinity; leave such candidates out")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    span = float(np.ptp(scores)) if len(scores) else 0.0
    relevance = (scores - scores.min()) / span if span > 0 else np.ones_like(scores)
    return relevance, unit, min(k, len(scores))
