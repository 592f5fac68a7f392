"""Paired latency with a clock that the test turns: nothing waits and every ratio is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.core.timing import TimingPlan, bootstrap_median, compare_latency

MS = 1_000_000


@dataclass
class FakeClock:
    """Nanoseconds that pass only when a competitor works."""

    now: int = 1_000
    calls: list[str] = field(default_factory=list)

    def __call__(self) -> int:
        return self.now

    def competitor(self, name: str, duration: Callable[[int], float]) -> Callable[[], None]:
        """A call that takes ``duration(how often it was called before)`` milliseconds."""
        count = 0

        def call() -> None:
            nonlocal count
            self.now += round(duration(count) * MS)
            count += 1
            self.calls.append(name)

        return call


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_ratios_are_right(clock: FakeClock) -> None:
    competitors = {
        "int8": clock.competitor("int8", lambda _: 2.0),
        "fp32": clock.competitor("fp32", lambda _: 5.0),
        "fp16": clock.competitor("fp16", lambda _: 10.0),
    }
    result = compare_latency(competitors, baseline="fp32", clock=clock)
    assert list(result) == ["int8", "fp32", "fp16"]
    assert [row.p50_ms for row in result.values()] == [2.0, 5.0, 10.0]
    assert [row.speedup for row in result.values()] == [2.5, 1.0, 0.5]
    assert [row.proven_faster for row in result.values()] == [True, False, False]
    for row in result.values():
        assert row.stable
        assert row.speedup_low <= row.speedup <= row.speedup_high
        assert row.num_calls == 60 * 5


def test_warm_up_is_not_counted(clock: FakeClock) -> None:
    plan = TimingPlan(rounds=6, calls=2, warmup=3)
    slow_at_first = clock.competitor("a", lambda count: 100.0 if count < 3 else 1.0)
    result = compare_latency({"a": slow_at_first}, baseline="a", plan=plan, clock=clock)
    assert len(clock.calls) == 3 + 6 * 2
    assert result["a"].num_calls == 12
    assert result["a"].p90_ms == 1.0


def test_percentiles_are_over_all_calls(clock: FakeClock) -> None:
    plan = TimingPlan(rounds=200, calls=5, warmup=0)
    durations = np.random.default_rng(5).uniform(1, 9, size=1000).round(3)
    call = clock.competitor("a", lambda count: float(durations[count]))
    row = compare_latency({"a": call}, baseline="a", plan=plan, clock=clock)["a"]
    assert row.num_calls == 1000
    assert row.p50_ms == pytest.approx(np.median(durations))
    assert row.p90_ms == pytest.approx(np.percentile(durations, 90))
    assert row.p99_ms == pytest.approx(np.percentile(durations, 99))


def test_no_99th_percentile_from_too_few_calls(clock: FakeClock) -> None:
    plan = TimingPlan(rounds=199, calls=5)
    call = clock.competitor("a", lambda _: 1.0)
    assert compare_latency({"a": call}, baseline="a", plan=plan, clock=clock)["a"].p99_ms is None


def test_turns_are_interleaved_in_an_order_drawn_anew(clock: FakeClock) -> None:
    names = ("a", "b", "c")
    plan = TimingPlan(rounds=60, calls=2, warmup=0)
    competitors = {name: clock.competitor(name, lambda _: 1.0) for name in names}
    compare_latency(competitors, baseline="a", plan=plan, clock=clock)
    rounds = [tuple(clock.calls[start : start + 6 : 2]) for start in range(0, 360, 6)]
    turns = [tuple(clock.calls[start : start + 2]) for start in range(0, 360, 2)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert all(first == second for first, second in turns)
    assert len(set(rounds)) == 6
    for name in names:
        assert 8 < sum(order[0] == name for order in rounds) < 32


def test_one_seed_one_order(clock: FakeClock) -> None:
    orders = []
    for seed in (1, 1, 2):
        clock.calls.clear()
        competitors = {name: clock.competitor(name, lambda _: 1.0) for name in "abc"}
        plan = TimingPlan(rounds=10, seed=seed)
        compare_latency(competitors, baseline="a", plan=plan, clock=clock)
        orders.append(list(clock.calls))
    assert orders[0] == orders[1] != orders[2]


def test_a_machine_that_slows_down_does_not_move_the_ratio(clock: FakeClock) -> None:
    # Half-way the machine becomes ten times slower: medians of all calls would mislead.
    plan = TimingPlan(rounds=60, calls=5, warmup=0)

    def drifting(duration: float) -> Callable[[int], float]:
        return lambda count: duration if count < 150 else 10 * duration

    competitors = {
        "fp32": clock.competitor("fp32", drifting(4.0)),
        "int8": clock.competitor("int8", drifting(2.0)),
    }
    row = compare_latency(competitors, baseline="fp32", plan=plan, clock=clock)["int8"]
    assert row.speedup == pytest.approx(2.0)
    assert row.stable
    assert row.proven_faster


def test_one_slow_call_in_a_turn_does_not_move_the_ratio(clock: FakeClock) -> None:
    competitors = {
        "fp32": clock.competitor("fp32", lambda _: 4.0),
        "int8": clock.competitor("int8", lambda count: 500.0 if count % 5 == 0 else 2.0),
    }
    row = compare_latency(competitors, baseline="fp32", clock=clock)["int8"]
    assert (row.speedup, row.stable) == (2.0, True)


def test_rounds_that_disagree_are_unstable_and_prove_nothing(clock: FakeClock) -> None:
    plan = TimingPlan(rounds=60, calls=1, warmup=0)
    competitors = {
        "fp32": clock.competitor("fp32", lambda _: 10.0),
        "int8": clock.competitor("int8", lambda count: (1.0, 3.0, 5.0, 7.0)[count % 4]),
    }
    row = compare_latency(competitors, baseline="fp32", plan=plan, clock=clock)["int8"]
    assert row.speedup_low > 1
    assert not row.stable
    assert not row.proven_faster


def test_the_spread_that_counts_as_stable_is_the_plans(clock: FakeClock) -> None:
    def measure(max_spread: float) -> bool:
        plan = TimingPlan(rounds=60, calls=1, warmup=0, max_spread=max_spread)
        competitors = {
            "fp32": clock.competitor("fp32", lambda _: 10.0),
            "int8": clock.competitor("int8", lambda count: (4.0, 5.0)[count % 2]),
        }
        return compare_latency(competitors, baseline="fp32", plan=plan, clock=clock)["int8"].stable

    assert [measure(limit) for limit in (0.1, 0.2, 0.25)] == [False, False, True]


def test_equally_fast_is_not_proven_faster(clock: FakeClock) -> None:
    generator = np.random.default_rng(3)
    competitors = {
        name: clock.competitor(name, lambda _: float(generator.normal(5, 0.2)))
        for name in ("fp32", "int8")
    }
    row = compare_latency(competitors, baseline="fp32", clock=clock)["int8"]
    assert row.stable
    assert row.speedup_low < 1 < row.speedup_high
    assert not row.proven_faster


@dataclass(frozen=True, kw_only=True)
class BudgetCase:
    """A budget, and the rounds that fit; one round takes 10 ms."""

    budget_s: float
    rounds: int

    @property
    def id(self) -> str:
        return f"{self.budget_s}s"


@pytest.mark.parametrize(
    "case",
    [
        BudgetCase(budget_s=0.0, rounds=10),  # a third is always done
        BudgetCase(budget_s=0.05, rounds=10),
        BudgetCase(budget_s=0.195, rounds=20),
        BudgetCase(budget_s=60.0, rounds=30),
    ],
    ids=lambda case: case.id,
)
def test_no_round_starts_after_the_budget(clock: FakeClock, case: BudgetCase) -> None:
    plan = TimingPlan(rounds=30, calls=1, warmup=5, budget_s=case.budget_s)
    competitors = {name: clock.competitor(name, lambda _: 5.0) for name in ("a", "b")}
    result = compare_latency(competitors, baseline="a", plan=plan, clock=clock)
    assert [row.num_calls for row in result.values()] == [case.rounds, case.rounds]


def test_a_baseline_that_does_not_compete_is_refused(clock: FakeClock) -> None:
    with pytest.raises(KeyError, match="fp32"):
        compare_latency({"int8": lambda: None}, baseline="fp32", clock=clock)


def test_the_real_clock_is_the_default() -> None:
    plan = TimingPlan(rounds=3, calls=1, warmup=0)
    row = compare_latency({"a": lambda: sum(range(2000))}, baseline="a", plan=plan)["a"]
    assert 0 < row.p50_ms < 1000


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.integers(0, 5))
def test_a_bootstrap_interval_stays_within_the_values(values: list[float], seed: int) -> None:
    array = np.asarray(values)
    low, high = bootstrap_median(array, seed=seed)
    assert array.min() <= low <= high <= array.max()
    assert low <= np.median(array) <= high
    assert bootstrap_median(array, seed=seed) == (low, high)


def test_more_rounds_make_the_interval_narrower(rng: np.random.Generator) -> None:
    def width(count: int) -> float:
        intervals = [bootstrap_median(rng.normal(2.0, 0.3, count), seed=s) for s in range(10)]
        return float(np.mean([high - low for low, high in intervals]))

    # The width falls with the square root of the rounds: twice for each four times as many.
    assert 1.6 < width(20) / width(80) < 2.5
    assert 1.6 < width(80) / width(320) < 2.5


def test_the_interval_covers_the_true_median(rng: np.random.Generator) -> None:
    covered = 0
    for seed in range(200):
        values = np.exp(rng.normal(np.log(1.5), 0.2, size=60))
        low, high = bootstrap_median(values, seed=seed)
        covered += low <= 1.5 <= high
    assert 180 <= covered <= 199


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rounds", 0),
        ("calls", 0),
        ("calls", -1),
        ("warmup", -1),
        ("seed", -1),
        ("max_spread", -0.1),
        ("max_spread", float("nan")),
        ("budget_s", -1.0),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        TimingPlan(**{name: value})
