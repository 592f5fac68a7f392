"""Determinantal point process: the greedy set of largest volume (Chen, Zhang and Zhou, 2018).

A set is good when its candidates are relevant and span much space. The kernel is
``L = diag(q) S diag(q)`` with S the cosines and q the quality. Each pick multiplies the determinant
by its conditional variance; these are updated by one row of a Cholesky factor a pick, so that k
picks of n candidates cost O(n k (k + d)) and no determinant is ever computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.recommending.reranking.checks import checked

# Added to the cosine of a candidate with itself: picks beyond the dimensions stay defined.
_RIDGE = 1e-3
# A weight of 1 would be an infinite exponent; here relevance decides all that floats can tell.
_MOST = 0.999


def rerank_by_determinant(
    scores: npt.NDArray[Any], vectors: npt.NDArray[Any], *, k: int, weight: float = 0.8
) -> npt.NDArray[np.int64]:
    """Return the positions of ``k`` candidates, first pick first.

    Args:
        scores: ``(candidates,)``, higher is better; scaled to 0..1 within the request.
        vectors: ``(candidates, dimensions)``, of any length.
        k: Picks; more than there are candidates means all of them.
        weight: 1 keeps the order of the scores; 0 looks at volume alone.

    Raises:
        InputError: The arrays do not fit together or hold NaN, or a number is out of its range.

    Example:
        >>> rerank_by_determinant(np.array([3., 2., 1.]), np.array([[1, 0], [1, 0], [0, 1.]]), k=2,
        ...                       weight=0.5).tolist()
        [0, 2]
    """
    relevance, unit, count = checked(scores, vectors, k, weight)
    if weight == 1:
        return np.argsort(-relevance, kind="stable")[:count].astype(np.int64)
    share = min(weight, _MOST)
    # log det L of a set = sum of 2 log q + log det S: quality enters the log as a sum, unscaled.
    quality = share / (1 - share) * relevance
    variance = np.full(len(relevance), 1 + _RIDGE)
    factor = np.zeros((count, len(relevance)))
    free = np.ones(len(relevance), dtype=bool)
    picked: list[int] = []
    for turn in range(count):
        gain = quality + np.log(np.maximum(variance, 1e-12))
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        picked.append(best)
        free[best] = False
        seen = unit @ unit[best]
        seen[best] += _RIDGE
        row = (seen - factor[:turn].T @ factor[:turn, best]) / np.sqrt(max(variance[best], 1e-12))
        factor[turn] = row
        variance = variance - np.square(row)
    return np.array(picked, dtype=np.int64)
