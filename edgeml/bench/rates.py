"""The highest rate that a target bears under a bound: doubling until it fails, then bisection.

Each rate is one run. A run counts as passed when it proves that its p99 lies within the bound
(:func:`~edgeml.bench.percentiles.meets_bound`), so a run with too few queries cannot pass. A run
whose generator was late says nothing about the target: it is made again, and when it stays late
the search ends with the generator named as the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeml.bench.percentiles import meets_bound, queries_needed
from edgeml.bench.record import Outcome, Record
from edgeml.bench.validity import Limits, judge
from edgeml.errors import InputError

SHARE = 0.99


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One rate of the search.

    Attributes:
        rate_per_s: Offered rate.
        passed: Whether the bound was met; None where the run said nothing.
        reason: Why it did not pass.
        p99_ms: Raw p99 of the response; None where queries failed.
    """

    rate_per_s: float
    passed: bool | None
    reason: str
    p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class HighestRate:
    """What the search found.

    Attributes:
        rate_per_s: Highest rate that passed; 0 where none did.
        failed_per_s: Lowest rate above it that did not; None where none failed.
        bound_ms: The bound on the p99 of the response.
        limited_by: ``target``, ``generator`` or ``search`` (its largest rate passed).
        tried: All rates, in the order in which they were run.
    """

    rate_per_s: float
    failed_per_s: float | None
    bound_ms: float
    limited_by: str
    tried: tuple[Tried, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the search as JSON values."""
        return {**vars(self), "tried": [dict(vars(row)) for row in self.tried]}


def find_highest_rate(
    run_at: Callable[[float], Record],
    *,
    bound_ms: float,
    start_per_s: float = 10.0,
    most_per_s: float = 100_000.0,
    resolution: float = 0.05,
    attempts: int = 3,
    limits: Limits | None = None,
) -> HighestRate:
    """Search for the highest rate at which the p99 of the response lies within a bound.

    Args:
        run_at: Runs one open loop at a rate, with the same seed for every rate.
        bound_ms: The bound.
        start_per_s: The first rate; it is halved while it fails, down to a thousandth.
        most_per_s: No rate above this one is tried.
        resolution: The search ends when the interval is this wide, relative to its lower end.
        attempts: Runs of one rate while the generator is late.
        limits: What makes a run invalid; its spread is not looked at here.

    Raises:
        InputError: The bound or the rates are none.
    """
    if not bound_ms > 0 or not 0 < start_per_s <= most_per_s or not resolution > 0:
        raise InputError(
            f"bound {bound_ms} ms, rates {start_per_s} to {most_per_s}, resolution {resolution}: "
            "positive, rising values were expected"
        )
    tried: list[Tried] = []

    def passes(rate: float) -> bool | None:
        found = _try(run_at, rate, bound_ms, attempts, limits or Limits())
        tried.append(found)
        return found.passed

    low, high, limited_by = _bracket(passes, start_per_s, most_per_s)
    while limited_by == "target" and low > 0 and high is not None and high - low > resolution * low:
        middle = (low + high) / 2
        passed = passes(middle)
        if passed is None:
            limited_by = "generator"
        elif passed:
            low = middle
        else:
            high = middle
    return HighestRate(
        rate_per_s=low,
        failed_per_s=high,
        bound_ms=bound_ms,
        limited_by=limited_by,
        tried=tuple(tried),
    )


def _bracket(
    passes: Callable[[float], bool | None], start: float, most: float
) -> tuple[float, float | None, str]:
    """Return a rate that passes (or 0), one that fails (or None), and what ended the doubling."""
    rate, low = start, 0.0
    while (passed := passes(rate)) is True:
        if rate >= most:
            return rate, None, "search"
        low, rate = rate, min(2 * rate, most)
    if passed is None:
        return low, None, "generator"
    high = rate
    while not low and rate > start / 1000:
        rate /= 2
        passed = passes(rate)
        if passed is None:
            return 0.0, high, "generator"
        low, high = (rate, high) if passed else (0.0, rate)
    return low, high, "target"


def _try(
    run_at: Callable[[float], Record],
    rate: float,
    bound_ms: float,
    attempts: int,
    limits: Limits,
) -> Tried:
    for _ in range(attempts):
        record = run_at(rate)
        verdict = judge(record, limits=limits)
        response = record.response_ms
        p99 = _raw(response)
        dropped = record.count(Outcome.DROPPED)
        if verdict.wrong:
            return Tried(rate_per_s=rate, passed=False, reason=verdict.reason, p99_ms=p99)
        if dropped > (1 - limits.min_achieved) * len(record):  # every caller was kept waiting
            return Tried(rate_per_s=rate, passed=False, reason=verdict.reason, p99_ms=p99)
        if not verdict.late:
            passed = meets_bound(response, SHARE, bound_ms)
            return Tried(
                rate_per_s=rate,
                passed=passed,
                reason="" if passed else _why(len(record), p99, bound_ms),
                p99_ms=p99,
            )
    return Tried(rate_per_s=rate, passed=None, reason=verdict.reason, p99_ms=None)


def _raw(response_ms: Any) -> float | None:
    ordered = sorted(response_ms.tolist())
    value = ordered[min(int(SHARE * len(ordered)), len(ordered) - 1)]
    return value if value != float("inf") else None


def _why(num: int, p99_ms: float | None, bound_ms: float) -> str:
    if num < queries_needed(SHARE):
        return f"{num} queries; {queries_needed(SHARE)} are needed"
    if p99_ms is None:
        return "more than 1 % of the queries have no good answer"
    return f"p99 {p99_ms:.2f} ms is not proven to lie within {bound_ms:g} ms"
