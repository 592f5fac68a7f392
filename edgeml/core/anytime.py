"""Tests that may be looked at all the time: is a mean above its limit, at any moment of a stream?

Whoever watches a dashboard looks after every request; a test for one look then raises false alarms
almost surely. Here the evidence is a wealth that starts at 1 and bets on each difference: under the
null hypothesis it is a nonnegative supermartingale, so that the chance that it ever reaches 1/level
is at most the level (Ville's inequality). Means of bounded values are bet on as by Waudby-Smith and
Ramdas 2024, "Estimating means of bounded random variables by betting", JRSSB 86:1-27; the stake is
a mixture over a fixed grid. The differences take three values, so counts are all that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Shares of the largest stake that could lose everything: small effects need small stakes.
_STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])


@dataclass(slots=True)
class ExcessCount:
    """How often a difference was +1, 0 and -1.

    Attributes:
        above: Times that it was +1.
        equal: Times that it was 0.
        below: Times that it was -1.
    """

    above: int = 0
    equal: int = 0
    below: int = 0

    def add(self, difference: int) -> None:
        """Count one difference: -1, 0 or 1."""
        if difference > 0:
            self.above += 1
        elif difference < 0:
            self.below += 1
        else:
            self.equal += 1

    @property
    def count(self) -> int:
        """All of them."""
        return self.above + self.equal + self.below

    @property
    def mean(self) -> float:
        """Their mean; 0.0 of none."""
        return (self.above - self.below) / self.count if self.count else 0.0

    def evidence(self, limit: float) -> float:
        """Return the wealth of betting that the mean is above a limit.

        Whether each value is independent of those before it does not matter, only that none has an
        expected value above the limit, given what came before.

        Args:
            limit: From 0 to below 1.

        Returns:
            From 0 up; a test of level ``a`` rejects "the mean is at most the limit" from ``1 / a``.

        Example:
            >>> ExcessCount(above=20).evidence(0.01) > 400 > ExcessCount(equal=20).evidence(0.01)
            True
        """
        counts = np.array([[self.above, self.equal, self.below]])
        return float(excess_evidence(counts, limit)[0])


def excess_evidence(counts: npt.NDArray[Any], limit: float) -> npt.NDArray[np.float64]:
    """Return the evidence of several counts at once; see :meth:`ExcessCount.evidence`.

    Args:
        counts: Whole numbers ``(watched, 3)``: how often each difference was +1, 0 and -1.
        limit: From 0 to below 1.
    """
    stakes = _STAKES / (1.0 + limit)
    logs = np.log1p([stakes * (1.0 - limit), -stakes * limit, -stakes * (1.0 + limit)])
    return _mean_of_exponentials(counts @ logs)


def mean_shift_evidence(
    total: float, total_of_squares: float, count: int, *, limit: float
) -> float:
    """Return the evidence that the mean of values in [-1, 1] lies above a limit.

    For values that are no counts. The wealth of each stake is bounded from below by its quadratic
    expansion (Fan, Grama and Liu 2015, "Exponential inequalities for martingales", EJP 20:1-22):
    ``log(1 + x) >= x + x ** 2 * (log(1 - s) + s)  / s ** 2`` for ``x >= -s``, so that sums are all
    that is kept.

    Args:
        total: Sum of the values.
        total_of_squares: Sum of their squares.
        count: How many they are.
        limit: From 0 to below 1.
    """
    shares = _STAKES * 0.75
    stakes = shares / (1.0 + limit)
    gain = total - count * limit
    squares = total_of_squares - 2 * limit * total + count * limit * limit
    penalty = (np.log1p(-shares) + shares) / shares**2
    found = _mean_of_exponentials(stakes * gain + stakes**2 * squares * penalty)
    return float(found)


def _mean_of_exponentials(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of exp over the last axis, without overflow."""
    top = logs.max(axis=-1)
    total = top + np.log(np.exp(logs - top[..., None]).mean(axis=-1))
    found: npt.NDArray[np.float64] = np.exp(np.minimum(total, 700.0))
    return found
