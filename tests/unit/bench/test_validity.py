"""Verdicts on records made by hand: each reason, and what is no reason."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.bench.record import Outcome
from edgeml.bench.validity import Limits, judge, spread_of
from tests.unit.bench.records import make_record


def test_a_run_without_faults_is_valid() -> None:
    verdict = judge(make_record(np.full(1000, 5.0), num_checked=1000))
    assert (verdict.valid, verdict.reason, verdict.spread) == (True, "", 0.0)


def test_a_late_generator_makes_a_run_invalid() -> None:
    lag = np.where(np.arange(1000) % 50 == 0, 3.0, 0.1)  # 2 % are late by 3 ms
    verdict = judge(make_record(np.full(1000, 5.0), lag_ms=lag))
    assert not verdict.valid
    assert verdict.late
    assert verdict.reason == (
        "the generator was late: p99 of its lag is 3.00 ms, 1.00 ms is allowed"
    )
    # Where answers take 100 ms, 5 % of that are allowed; and one late query in 200 is no p99.
    assert judge(make_record(np.full(1000, 100.0), lag_ms=lag)).valid
    rare = np.where(np.arange(1000) % 200 == 0, 3.0, 0.1)
    assert judge(make_record(np.full(1000, 5.0), lag_ms=rare)).valid


def test_dropped_queries_make_a_run_invalid() -> None:
    few = dict.fromkeys(range(15), Outcome.DROPPED)
    assert judge(make_record(np.full(1000, 5.0), outcomes=few)).valid
    many = dict.fromkeys(range(25), Outcome.DROPPED)
    verdict = judge(make_record(np.full(1000, 5.0), outcomes=many, conditions={"callers": 4}))
    assert not verdict.valid
    assert verdict.late
    assert "dropped 2.5 % of the queries: its 4 callers were busy" in verdict.reason


def test_a_generator_that_falls_behind_makes_a_run_invalid() -> None:
    lag = np.linspace(0.0, 400.0, 1000)  # 10 s of schedule took 10.4 s
    verdict = judge(make_record(np.full(1000, 500.0), lag_ms=lag), limits=Limits(max_lag_share=1.0))
    assert not verdict.valid
    assert "96.2 % of the offered rate" in verdict.reason


def test_one_wrong_answer_makes_a_run_invalid() -> None:
    record = make_record(
        np.full(1000, 5.0), num_checked=1000, num_wrong=1, wrong=("sample 3: 'a' where 'b' is",)
    )
    verdict = judge(record)
    assert (verdict.valid, verdict.wrong, verdict.late) == (False, True, False)
    assert verdict.reason == "1 of 1000 answers are wrong (sample 3: 'a' where 'b' is)"


def test_parts_that_disagree_make_a_run_invalid() -> None:
    verdict = judge(make_record(np.repeat([5.0, 5.0, 5.0, 5.0, 8.0], 100)))
    assert (verdict.valid, verdict.unstable, verdict.spread) == (False, True, pytest.approx(0.6))
    assert "60 % apart; at most 25 % is allowed" in verdict.reason
    assert judge(make_record(np.repeat([5.0, 6.0], 250))).valid
    assert judge(make_record(np.full(30, 5.0))).spread is None  # too short to be judged so


def test_a_server_that_fails_is_a_measurement_and_one_that_never_answers_is_none() -> None:
    some = dict.fromkeys(range(0, 1000, 3), Outcome.REFUSED)
    assert judge(make_record(np.full(1000, 5.0), outcomes=some)).valid
    none = dict.fromkeys(range(1000), Outcome.ERROR)
    verdict = judge(make_record(np.full(1000, 5.0), outcomes=none, failures=("E: gone",)))
    assert verdict.reason == "none of 1000 queries was answered (E: gone)"


def test_closed_loops_have_no_schedule_to_be_late_for() -> None:
    assert judge(make_record(np.full(1000, 5.0), rate_per_s=None, lag_ms=9.0)).valid


def test_the_spread_of_runs_is_relative_to_their_median() -> None:
    assert spread_of([4.0, 5.0, 5.5]) == pytest.approx(0.3)
