"""Latency, compared side by side: interleaved rounds, paired ratios, a bootstrap interval.

Machines are shared and drift. So competitors take turns within each round, in an order drawn anew
for each, ratios are formed inside a round, and a comparison whose rounds disagree is called
unstable, never a figure. The clock is an argument, so that this module is tested without waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Clock = Callable[[], int]

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class TimingPlan:
    """How much to measure.

    Attributes:
        rounds: Rounds in which each competitor takes one turn.
        calls: Calls in one turn; the turn counts as their median.
        warmup: Calls of each competitor before the first round, not counted.
        max_spread: What is still called stable, relative to the median of the paired ratio: the
            width of its interval, and the difference between the two halves of the run.
        budget_s: Time after which no new round starts, once a third of the rounds is done.
        seed: Seed of the order and of the bootstrap.
    """

    rounds: int = 60
    calls: int = 5
    warmup: int = 10
    max_spread: float = 0.2
    budget_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.warmup < 0 or self.seed < 0:
            raise ValueError(f"warmup and seed are at least 0, got {self.warmup}, {self.seed}")
        if not self.max_spread >= 0 or not self.budget_s >= 0:
            text = f"{self.max_spread} and {self.budget_s}"
            raise ValueError(f"max_spread and budget_s are at least 0, got {text}")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One competitor's latency, and its ratio to the baseline's.

    Attributes:
        p50_ms: Median of all calls.
        p90_ms: 90th percentile of all calls.
        p99_ms: 99th percentile of all calls; None under 1,000 calls.
        speedup: Median over the rounds of baseline / this one.
        speedup_low: Lower end of its 95 % bootstrap interval.
        speedup_high: Upper end.
        stable: Whether the rounds agree well enough to say anything.
        num_calls: Calls counted.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    speedup: float
    speedup_low: float
    speedup_high: float
    stable: bool
    num_calls: int

    @property
    def proven_faster(self) -> bool:
        """Whether the whole interval lies above 1 and the measurement is stable."""
        return self.stable and self.speedup_low > 1.0


def compare_latency(
    competitors: Mapping[str, Callable[[], object]],
    *,
    baseline: str,
    plan: TimingPlan | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time competitors in turns.

    Args:
        competitors: Name to a call without arguments that does one item's whole work.
        baseline: Name of the competitor that ratios refer to.
        plan: How much to measure.
        clock: Nanoseconds, monotonic.

    Returns:
        Name to latency, in the given order; the baseline has a speedup of 1.0.

    Raises:
        KeyError: The baseline is not among the competitors.
    """
    plan = plan or TimingPlan()
    if baseline not in competitors:
        raise KeyError(f"the baseline {baseline!r} is none of {list(competitors)}")
    for call in competitors.values():
        for _ in range(plan.warmup):
            call()
    samples = _interleave(competitors, plan, clock)
    turns = {name: np.median(rows, axis=1) for name, rows in samples.items()}
    return {
        name: _summary(samples[name], turns[baseline] / turns[name], plan) for name in competitors
    }


def _interleave(
    competitors: Mapping[str, Callable[[], object]], plan: TimingPlan, clock: Clock
) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(plan.seed)
    names = list(competitors)
    rows: dict[str, list[list[int]]] = {name: [] for name in names}
    start = clock()
    for done in range(plan.rounds):
        if 3 * done >= plan.rounds and clock() - start > plan.budget_s * 1e9:
            break
        for index in rng.permutation(len(names)):
            call, turn = competitors[names[index]], []
            for _ in range(plan.calls):
                before = clock()
                call()
                turn.append(clock() - before)
            rows[names[index]].append(turn)
    return {name: np.asarray(turns, dtype=np.float64) for name, turns in rows.items()}


def _summary(samples_ns: npt.NDArray[Any], ratios: npt.NDArray[Any], plan: TimingPlan) -> Latency:
    low, high = bootstrap_median(ratios, seed=plan.seed)
    median = float(np.median(ratios))
    milliseconds = samples_ns.ravel() / 1e6
    return Latency(
        p50_ms=float(np.median(milliseconds)),
        p90_ms=float(np.percentile(milliseconds, 90)),
        p99_ms=float(np.percentile(milliseconds, 99)) if milliseconds.size >= 1000 else None,
        speedup=median,
        speedup_low=low,
        speedup_high=high,
        stable=max(high - low, _drift(ratios)) <= plan.max_spread * median,
        num_calls=int(milliseconds.size),
    )


def _drift(ratios: npt.NDArray[Any]) -> float:
    """Return how far the medians of the two halves of a run lie apart."""
    if len(ratios) < 2:
        return 0.0
    first, second = np.array_split(ratios, 2)
    return float(abs(np.median(first) - np.median(second)))


def bootstrap_median(values: npt.NDArray[Any], *, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the median.

    Args:
        values: float ``(rounds,)``.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)
