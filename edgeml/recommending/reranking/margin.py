"""Maximal marginal relevance (Carbonell and Goldstein, 1998).

Pick after pick: the candidate whose relevance, less its likeness to what is already picked, is
highest. Likeness is the cosine to the nearest pick.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.recommending.reranking.checks import checked


def rerank_by_margin(
    scores: npt.NDArray[Any], vectors: npt.NDArray[Any], *, k: int, weight: float = 0.8
) -> npt.NDArray[np.int64]:
    """Return the positions of ``k`` candidates, first pick first.

    Args:
        scores: ``(candidates,)``, higher is better; scaled to 0..1 within the request.
        vectors: ``(candidates, dimensions)``, of any length.
        k: Picks; more than there are candidates means all of them.
        weight: 1 keeps the order of the scores; 0 looks at likeness alone, after the first pick.

    Raises:
        InputError: The arrays do not fit together or hold NaN, or a number is out of its range.

    Example:
        >>> rerank_by_margin(np.array([3., 2., 1.]), np.array([[1, 0], [1, 0], [0, 1.]]), k=2,
        ...                  weight=0.5).tolist()
        [0, 2]
    """
    relevance, unit, count = checked(scores, vectors, k, weight)
    nearest = np.zeros(len(relevance))
    free = np.ones(len(relevance), dtype=bool)
    picked: list[int] = []
    for turn in range(count):
        margin = relevance if not turn else weight * relevance - (1 - weight) * nearest
        best = int(np.argmax(np.where(free, margin, -np.inf)))
        picked.append(best)
        free[best] = False
        likeness = unit @ unit[best]
        nearest = likeness if not turn else np.maximum(nearest, likeness)
    return np.array(picked, dtype=np.int64)
