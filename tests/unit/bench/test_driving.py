"""The engine in virtual time: what each scenario sends, and what the record says about it."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from edgeml.bench.arrivals import constant, replayed
from edgeml.bench.caller import Caller
from edgeml.bench.driving import drive
from edgeml.bench.queueing import simulate_queue
from edgeml.bench.record import Outcome
from edgeml.bench.scenarios import MultiStream, Offline, Server, SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import CallTarget
from edgeml.errors import InputError
from tests.unit.bench import targets
from tests.unit.bench.virtual import VirtualClock, timed_target

_NO_WARMUP = RunSettings(warmup=0)


def test_a_single_stream_sends_the_next_query_after_the_answer() -> None:
    clock = VirtualClock()
    target = timed_target(clock, [2.0] * 100)
    record = drive(target, SingleStream(seconds=0.1, min_queries=1), _NO_WARMUP, clock=clock)
    assert len(record) == 53  # 5 ms lie between the callers' readiness and the start
    assert np.array_equal(record.sent_ns[1:], record.done_ns[:-1])
    assert np.allclose(record.response_ms, 2.0)
    assert record.offered_per_s is None


def test_a_closed_loop_lasts_until_it_has_its_queries() -> None:
    clock = VirtualClock()
    target = timed_target(clock, [2.0] * 500)
    record = drive(target, SingleStream(seconds=0.01, min_queries=300), _NO_WARMUP, clock=clock)
    assert len(record) == 300


def test_an_open_loop_counts_from_the_schedule_and_blames_the_target_for_its_queue() -> None:
    clock = VirtualClock()
    target = timed_target(clock, [2.0, 50.0, *[2.0] * 8])
    scenario = Server(schedule=constant(100.0, num_queries=10), callers=1, when_busy="queue")
    record = drive(target, scenario, _NO_WARMUP, clock=clock)
    service = [2.0, 50.0, *[2.0] * 8]
    assert np.allclose(record.service_ms, service)
    assert np.allclose(
        record.response_ms, simulate_queue(scenario.schedule, np.array(service), servers=1)
    )
    assert record.response_ms[2] == pytest.approx(42.0)  # due at 20, sent at 60
    assert not record.send_lag_ms.any()
    assert record.count(Outcome.OK) == 10


def test_an_open_loop_drops_what_no_caller_can_send() -> None:
    clock = VirtualClock()
    target = timed_target(clock, [2.0, 35.0, *[2.0] * 8])
    scenario = Server(schedule=constant(100.0, num_queries=10), callers=1)
    record = drive(target, scenario, _NO_WARMUP, clock=clock)
    assert record.count(Outcome.DROPPED) == 3
    assert np.flatnonzero(record.outcome == Outcome.DROPPED).tolist() == [2, 3, 4]
    assert np.isinf(record.response_ms[2:5]).all()
    assert (record.sent_ns[2:5] == -1).all()


def test_offline_asks_for_everything_at_once() -> None:
    clock = VirtualClock()
    scenario = Offline(num_queries=50, samples_per_query=8)
    record = drive(timed_target(clock, [4.0] * 50), scenario, _NO_WARMUP, clock=clock)
    assert len(record) == 50
    assert record.seconds == pytest.approx(0.2)
    assert record.samples_per_query == 8


def test_each_way_to_end_is_counted() -> None:
    record = drive(targets.failing(), SingleStream(seconds=0.001, min_queries=50), _NO_WARMUP)
    counts = {outcome.name: record.count(outcome) for outcome in Outcome}
    assert counts == {"OK": 20, "REFUSED": 10, "TIMEOUT": 10, "ERROR": 10, "DROPPED": 0}
    assert np.isinf(record.response_ms).sum() == 30
    assert "RuntimeError: broken in two lines" in record.failures


def test_callers_ask_at_the_same_time_and_share_the_samples() -> None:
    meeting, asked = threading.Barrier(3, timeout=20), []

    def call(sample: int) -> None:
        asked.append(sample)
        meeting.wait()  # nobody passes unless all three are under way

    target = CallTarget(call, num_samples=6)
    scenario = MultiStream(callers=3, seconds=0.001, min_queries=30)
    try:
        record = drive(target, scenario, _NO_WARMUP)
    finally:
        meeting.abort()
    assert len(record) >= 30
    assert set(asked) == set(range(6))


def test_an_open_loop_goes_on_sending_to_a_server_that_does_not_answer() -> None:
    target = targets.hanging(after=0)
    scenario = Server(schedule=constant(500.0, num_queries=8), callers=8)
    record = drive(target, scenario, RunSettings(warmup=0, drain_s=2.0))
    assert (record.sent_ns >= 0).all()
    assert record.count(Outcome.TIMEOUT) == 8
    assert record.conditions["stuck_callers"] == 8


def test_queries_that_wait_for_a_stuck_caller_are_timeouts() -> None:
    scenario = Server(schedule=constant(500.0, num_queries=8), callers=1, when_busy="queue")
    record = drive(targets.hanging(after=2), scenario, RunSettings(warmup=0, drain_s=1.0))
    assert record.count(Outcome.OK) == 2
    assert record.count(Outcome.TIMEOUT) == 6
    assert (record.sent_ns >= 0).sum() == 3


def test_warm_up_is_not_counted() -> None:
    calls: list[int] = []
    target = CallTarget(calls.append)
    record = drive(target, SingleStream(seconds=0.001, min_queries=5), RunSettings(warmup=40))
    assert len(calls) == len(record) + 40


def test_a_target_that_fails_its_warm_up_is_no_run() -> None:
    with pytest.raises(RuntimeError, match="broken"):
        drive(CallTarget(_break), SingleStream(seconds=0.01))


def _break(_sample: int) -> None:
    raise RuntimeError("broken")


def test_answers_are_checked_after_the_run() -> None:
    record = drive(targets.labeller(wrong=[2]), SingleStream(seconds=0.001, min_queries=40))
    assert record.num_checked == len(record)
    assert 0 < record.num_wrong < record.num_checked
    assert record.wrong[0] == "sample 2: 'nonsense' where '2' is right"
    right = drive(targets.labeller(wrong=[]), SingleStream(seconds=0.001, min_queries=40))
    assert (right.num_checked, right.num_wrong) == (len(right), 0)


def test_answers_beyond_the_limit_are_thinned_evenly() -> None:
    numbers = list(range(1000))
    target = CallTarget(lambda sample: sample, num_samples=1000, expected=numbers)
    caller = Caller(target, order=numbers, clock=VirtualClock(), max_kept=8)
    caller.connect(0)
    for query in numbers:
        caller.ask(query)
    kept = [sample for sample, _ in caller.kept]
    assert 4 <= len(kept) <= 8
    assert kept[0] < 200
    assert kept[-1] > 800


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_stated_and_put_back(enabled: bool) -> None:
    seen: set[bool] = set()
    target = CallTarget(lambda _sample: seen.add(gc.isenabled()))
    settings = RunSettings(warmup=0, gc_enabled=enabled)
    record = drive(target, SingleStream(seconds=0.001, min_queries=5), settings)
    assert seen == {enabled}
    assert record.conditions["gc_enabled"] is enabled
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_scenarios_that_make_no_sense_are_refused() -> None:
    schedule = replayed([0.0, 1.0])
    with pytest.raises(InputError, match="expected"):
        SingleStream(seconds=0)
    with pytest.raises(InputError, match="expected"):
        MultiStream(callers=0)
    with pytest.raises(InputError, match="expected"):
        Server(schedule=schedule, when_busy="block")
    with pytest.raises(InputError, match="expected"):
        Offline(num_queries=0)
    with pytest.raises(InputError, match="expected"):
        RunSettings(spin_us=-1)
