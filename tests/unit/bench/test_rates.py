"""The search for the highest rate, over modelled servers: no test waits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeml.bench.arrivals import poisson
from edgeml.bench.queueing import highest_modelled_rate, simulate_queue
from edgeml.bench.rates import find_highest_rate
from edgeml.bench.record import Outcome, Record
from edgeml.errors import InputError
from tests.unit.bench.records import make_record

_SERVICE_MS = 4.0


def _server(
    num_queries: int = 3000, *, lag_ms: Callable[[float], float] = lambda _rate: 0.0
) -> Callable[[float], Record]:
    def run_at(rate: float) -> Record:
        schedule = poisson(rate, num_queries=num_queries, seed=5)
        response = simulate_queue(schedule, np.full(num_queries, _SERVICE_MS), servers=1)
        return make_record(response, rate_per_s=rate, lag_ms=lag_ms(rate))

    return run_at


def test_the_search_finds_the_rate_that_the_model_predicts() -> None:
    found = find_highest_rate(_server(30_000), bound_ms=20.0, start_per_s=5.0, resolution=0.02)
    predicted = highest_modelled_rate([_SERVICE_MS], bound_ms=20.0)
    assert found.rate_per_s == pytest.approx(predicted, rel=0.08)
    assert found.limited_by == "target"
    assert found.failed_per_s is not None
    assert found.failed_per_s <= 1.02 * found.rate_per_s
    rates = [row.rate_per_s for row in found.tried]
    assert rates[:4] == [5.0, 10.0, 20.0, 40.0]
    assert len(rates) < 20


def test_a_start_that_is_too_high_is_halved() -> None:
    found = find_highest_rate(_server(), bound_ms=20.0, start_per_s=1000.0)
    assert 80 < found.rate_per_s < 220


def test_a_bound_that_nothing_meets_gives_no_rate() -> None:
    found = find_highest_rate(_server(), bound_ms=3.0, start_per_s=10.0)
    assert found.rate_per_s == 0.0
    assert found.limited_by == "target"
    assert all(row.passed is False for row in found.tried)


def test_runs_with_too_few_queries_cannot_pass() -> None:
    found = find_highest_rate(_server(400), bound_ms=50.0, start_per_s=10.0)
    assert found.rate_per_s == 0.0
    assert found.tried[0].reason == "400 queries; 662 are needed"


def test_the_generators_limit_is_not_the_targets() -> None:
    late = _server(lag_ms=lambda rate: 5.0 if rate > 50 else 0.0)
    found = find_highest_rate(late, bound_ms=20.0, start_per_s=10.0)
    assert (found.rate_per_s, found.limited_by) == (40.0, "generator")
    assert found.tried[-1].passed is None
    assert "the generator was late" in found.tried[-1].reason


def test_a_late_run_is_made_again() -> None:
    calls: list[float] = []
    good = _server()

    def run_at(rate: float) -> Record:
        calls.append(rate)
        if len(calls) == 1:
            return _server(lag_ms=lambda _rate: 5.0)(rate)
        return good(rate)

    found = find_highest_rate(run_at, bound_ms=20.0, start_per_s=40.0)
    assert calls[:2] == [40.0, 40.0]
    assert found.rate_per_s > 80
    assert found.limited_by == "target"


def test_a_target_that_keeps_all_callers_waiting_has_failed() -> None:
    def run_at(rate: float) -> Record:
        dropped = dict.fromkeys(range(0, 1000, 10), Outcome.DROPPED) if rate > 100 else {}
        return make_record(np.full(1000, 5.0), rate_per_s=rate, outcomes=dropped)

    found = find_highest_rate(run_at, bound_ms=20.0, start_per_s=50.0)
    assert 95 <= found.rate_per_s <= 100
    assert found.limited_by == "target"


def test_wrong_answers_fail_at_once() -> None:
    def run_at(rate: float) -> Record:
        return make_record(np.full(1000, 1.0), rate_per_s=rate, num_checked=9, num_wrong=9)

    found = find_highest_rate(run_at, bound_ms=20.0, start_per_s=10.0)
    assert found.rate_per_s == 0.0
    assert "wrong" in found.tried[0].reason


def test_the_largest_rate_ends_the_search() -> None:
    found = find_highest_rate(_server(), bound_ms=20.0, start_per_s=10.0, most_per_s=60.0)
    assert (found.rate_per_s, found.failed_per_s, found.limited_by) == (60.0, None, "search")
    assert found.to_json()["tried"][0]["rate_per_s"] == 10.0


def test_a_search_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        find_highest_rate(_server(), bound_ms=0.0)
    with pytest.raises(InputError, match="expected"):
        find_highest_rate(_server(), bound_ms=1.0, start_per_s=10.0, most_per_s=5.0)
