"""Schedules: seeded, independent of the run, and of the distribution that they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from edgeml.bench.arrivals import Schedule, constant, poisson, replayed
from edgeml.errors import InputError

_SEEDS = range(10)


def _p_value(schedule: Schedule) -> float:
    gaps = np.diff(schedule.due_ns, prepend=0) / 1e9
    return float(kstest(gaps, "expon", args=(0, 1 / schedule.rate_per_s)).pvalue)


def test_poisson_gaps_are_exponential() -> None:
    values = [_p_value(poisson(120.0, num_queries=3000, seed=seed)) for seed in _SEEDS]
    # Under the claim the p-values are uniform: ten above 0.001 has a probability of 0.99.
    assert min(values) > 0.001
    assert np.median(values) > 0.05


def test_the_test_of_poisson_gaps_can_fail() -> None:
    assert _p_value(constant(120.0, num_queries=3000)) < 1e-6
    slower = poisson(110.0, num_queries=3000, seed=0)
    assert _p_value(Schedule(due_ns=slower.due_ns, kind="poisson", rate_per_s=120.0)) < 1e-3


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    first, second, other = (poisson(50.0, num_queries=500, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first.due_ns, second.due_ns)
    assert not np.array_equal(first.due_ns, other.due_ns)
    assert (first.kind, first.seed, len(first)) == ("poisson", 7, 500)


def test_a_longer_schedule_begins_like_the_shorter_one() -> None:
    short, long = (poisson(50.0, num_queries=num, seed=1) for num in (100, 200))
    assert np.array_equal(short.due_ns, long.due_ns[:100])


def test_a_constant_rate_does_not_drift() -> None:
    schedule = constant(3.0, num_queries=3001)
    assert schedule.due_ns[0] == 0
    assert schedule.due_ns[-1] == 1_000_000_000_000
    assert schedule.seconds == 1000.0


def test_replayed_times_are_kept() -> None:
    schedule = replayed([0.0, 0.5, 0.5, 2.0])
    assert schedule.due_ns.tolist() == [0, 500_000_000, 500_000_000, 2_000_000_000]
    assert schedule.rate_per_s == 1.5


@pytest.mark.parametrize("times", [[0.0], [0.2, 0.1], [0.0, float("nan")], [[0.0, 1.0]], [-1, 0]])
def test_times_that_are_no_schedule_are_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match="expected"):
        replayed(times)


@pytest.mark.parametrize(("rate", "num"), [(0.0, 5), (-1.0, 5), (float("inf"), 5), (1.0, 0)])
def test_rates_and_numbers_that_are_none_are_refused(rate: float, num: int) -> None:
    with pytest.raises(InputError, match="expected"):
        poisson(rate, num_queries=num, seed=0)
    with pytest.raises(InputError, match="expected"):
        constant(rate, num_queries=num)
