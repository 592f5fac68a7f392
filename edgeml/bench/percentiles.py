"""Percentiles that the sample supports, with intervals; for the rest the reason why not.

Two questions, two tools. How well is the percentile known? The interval between two order
statistics, from the binomial, assuming nothing about the shape of the distribution. Are there
enough queries at all? MLPerf's early stopping: the smallest number of queries at which a bound on
the percentile can be stated with confidence 0.99, which is 64 for p90 and 662 for p99.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.99
_INTERVAL = 0.95


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """One percentile of latency, or why there is none.

    Attributes:
        share: Such as 0.99.
        value_ms: The raw percentile of the sample; None where ``reason`` says why.
        low_ms: Lower end of its 95 % interval.
        high_ms: Upper end; None where it lies beyond the sample.
        bound_ms: MLPerf's estimate: with confidence 0.99 the true percentile is no larger.
        num_queries: Queries that it rests on, those without an answer included.
        reason: Why there is no value; empty where there is one.
    """

    share: float
    value_ms: float | None
    low_ms: float | None
    high_ms: float | None
    bound_ms: float | None
    num_queries: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the percentile as JSON values."""
        return {
            "value_ms": self.value_ms,
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
            "bound_ms": self.bound_ms,
            "num_queries": self.num_queries,
            "reason": self.reason,
        }


def percentile(latencies_ms: npt.NDArray[Any], share: float) -> Percentile:
    """Return a percentile with what is known about it.

    Args:
        latencies_ms: float ``(queries,)``; infinite for a query without a good answer, which counts
            as slower than any other.
        share: Between 0 and 1, such as 0.99.
    """
    values = np.sort(np.asarray(latencies_ms, dtype=np.float64))
    num = int(values.size)
    needed = queries_needed(share)
    if num < needed:
        return _none(share, num, f"{num} queries; p{100 * share:g} needs at least {needed}")
    value = float(values[max(math.ceil(share * num), 1) - 1])
    if math.isinf(value):
        failed = np.count_nonzero(np.isinf(values)) / num
        return _none(share, num, f"{100 * failed:.1f} % of the queries have no good answer")
    low, high = _interval_ranks(num, share)
    return Percentile(
        share=share,
        value_ms=value,
        low_ms=float(values[low - 1]) if low else 0.0,
        high_ms=_finite(values[high - 1]) if high <= num else None,
        bound_ms=_finite(values[num - discardable(num, share) - 1]),
        num_queries=num,
    )


def queries_needed(share: float, *, over: int = 1) -> int:
    """Return the smallest run in which ``over`` slow queries still prove the percentile.

    Args:
        share: The percentile, such as 0.99.
        over: Queries that were slower than the bound; MLPerf asks for room for at least one.
    """
    low, high = over, over + 1
    while not _proven(high, share, over):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _proven(middle, share, over) else (middle, high)
    return high


def discardable(num_queries: int, share: float) -> int:
    """Return how many of the slowest queries may be left out of a proven bound; -1 if none can be.

    Args:
        num_queries: Queries in the run.
        share: The percentile.
    """
    low, high = -1, num_queries
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _proven(num_queries, share, middle) else (low, middle)
    return low


def meets_bound(latencies_ms: npt.NDArray[Any], share: float, bound_ms: float) -> bool:
    """Say whether a run proves that the percentile lies within a bound, as MLPerf's Server asks.

    Args:
        latencies_ms: float ``(queries,)``, infinite without a good answer.
        share: The percentile.
        bound_ms: The bound.
    """
    over = int(np.count_nonzero(np.asarray(latencies_ms) > bound_ms))
    return over < len(latencies_ms) and _proven(len(latencies_ms), share, over)


def _proven(num: int, share: float, over: int) -> bool:
    """Say whether at most ``over`` of ``num`` would be too lucky for a true share any lower."""
    return _binomial_at_most(over, num, 1.0 - share) <= 1.0 - CONFIDENCE


def _interval_ranks(num: int, share: float) -> tuple[int, int]:
    """Return the ranks (from 1) of the interval's ends; 0 and num + 1 lie beyond the sample."""
    tail = (1.0 - _INTERVAL) / 2
    cumulative = np.cumsum(np.exp(_log_binomial(num, share)))
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1.0 - tail, side="left")) + 1
    return low, high


def _binomial_at_most(most: int, num: int, share: float) -> float:
    return float(np.exp(_log_binomial(num, share, most=most)).sum())


def _log_binomial(num: int, share: float, *, most: int | None = None) -> npt.NDArray[Any]:
    """Return the log of P(X = k) for k = 0..most, X binomial."""
    count = np.arange((num if most is None else most) + 1, dtype=np.float64)
    steps = np.log((num - count[:-1]) / (count[:-1] + 1.0)) if count.size > 1 else count[:0]
    choose = np.concatenate([[0.0], np.cumsum(steps)])
    out: npt.NDArray[Any] = choose + count * math.log(share) + (num - count) * math.log1p(-share)
    return out


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _none(share: float, num: int, reason: str) -> Percentile:
    return Percentile(
        share=share,
        value_ms=None,
        low_ms=None,
        high_ms=None,
        bound_ms=None,
        num_queries=num,
        reason=reason,
    )
