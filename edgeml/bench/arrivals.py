"""Arrival times, computed before a run: nothing that happens in the run can move them.

A schedule is an array of times and how it was made. Open loops send by it whether or not earlier
queries were answered, which is what independent users do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError

_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """When each query is due.

    Attributes:
        due_ns: int64 ``(queries,)``, from the start of the run, never falling.
        kind: ``poisson``, ``constant`` or ``replayed``.
        rate_per_s: Queries a second that were asked for; the mean for replayed times.
        seed: Seed of the gaps; None where nothing was drawn.
    """

    due_ns: npt.NDArray[np.int64]
    kind: str
    rate_per_s: float
    seed: int | None = None

    def __post_init__(self) -> None:
        due = self.due_ns
        if due.ndim != 1 or due.dtype != np.int64 or not due.size:
            raise InputError(f"arrival times are int64 (queries,), got {due.dtype} {due.shape}")
        if due[0] < 0 or np.any(np.diff(due) < 0):
            raise InputError("arrival times fall; times from 0 on in rising order were expected")

    def __len__(self) -> int:
        return int(self.due_ns.size)

    @property
    def seconds(self) -> float:
        """From the start of the run to the last arrival."""
        return float(self.due_ns[-1]) / _NS


def poisson(rate_per_s: float, *, num_queries: int, seed: int) -> Schedule:
    """Draw arrivals of independent users: exponential gaps with a mean of 1 / rate.

    Args:
        rate_per_s: Queries a second, on average.
        num_queries: How many.
        seed: The same seed gives the same times.

    Raises:
        InputError: The rate or the number is none.

    Example:
        >>> len(poisson(100.0, num_queries=3, seed=0))
        3
    """
    _check(rate_per_s, num_queries)
    gaps = np.random.default_rng(seed).exponential(_NS / rate_per_s, size=num_queries)
    due = np.cumsum(gaps).astype(np.int64)
    return Schedule(due_ns=due, kind="poisson", rate_per_s=rate_per_s, seed=seed)


def constant(rate_per_s: float, *, num_queries: int) -> Schedule:
    """Return arrivals at equal gaps, the first one at 0.

    Args:
        rate_per_s: Queries a second.
        num_queries: How many.

    Raises:
        InputError: The rate or the number is none.
    """
    _check(rate_per_s, num_queries)
    due = np.rint(np.arange(num_queries) * (_NS / rate_per_s)).astype(np.int64)
    return Schedule(due_ns=due, kind="constant", rate_per_s=rate_per_s)


def replayed(times_s: Sequence[float] | npt.NDArray[Any]) -> Schedule:
    """Return arrivals that were recorded elsewhere, such as another load generator's.

    Args:
        times_s: Seconds from the start of the run, in rising order.

    Raises:
        InputError: They are no finite, rising times, or fewer than two.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or times.size < 2 or not np.all(np.isfinite(times)):
        raise InputError(
            f"the arrival times have shape {times.shape}; at least two finite seconds were expected"
        )
    due = np.rint(times * _NS).astype(np.int64)
    span = max(float(times[-1] - times[0]), 1e-9)
    return Schedule(due_ns=due, kind="replayed", rate_per_s=(times.size - 1) / span)


def _check(rate_per_s: float, num_queries: int) -> None:
    if not 0 < rate_per_s < float("inf"):
        raise InputError(f"the rate is {rate_per_s} a second; a positive, finite one was expected")
    if num_queries < 1:
        raise InputError(f"{num_queries} queries were asked for; at least 1 was expected")
