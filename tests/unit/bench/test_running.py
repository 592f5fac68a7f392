"""The generator in its own process; and invalid runs that are really produced there."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from edgeml.bench.arrivals import constant, poisson, replayed
from edgeml.bench.floors import Floor
from edgeml.bench.job import Job, read_job, write_job
from edgeml.bench.running import run
from edgeml.bench.scenarios import MultiStream, Offline, Server, SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.summary import summarise
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import judge
from edgeml.errors import InputError, MeasurementError

_HERE = "tests.unit.bench.targets"
_SHORT = SingleStream(seconds=0.01, min_queries=20)


def _spec(name: str, **options: object) -> TargetSpec:
    return TargetSpec(factory=f"{_HERE}:{name}", options=options)


def test_the_target_lives_in_another_process() -> None:
    spec = TargetSpec(factory=f"{_HERE}:whereabouts", environment={"EDGEML_TEST_MARK": "here"})
    record = run(spec, _SHORT)
    assert record.conditions["pid"] != os.getpid()
    assert record.conditions["mark"] == "here"
    assert os.environ.get("EDGEML_TEST_MARK") is None
    assert record.conditions["processors"]


@pytest.mark.parametrize(
    "scenario",
    [
        SingleStream(seconds=1.5, min_queries=7),
        MultiStream(callers=3, seconds=1.0, min_queries=5),
        Offline(num_queries=9, callers=2, samples_per_query=4),
        Server(schedule=poisson(10, num_queries=5, seed=3), callers=2, when_busy="queue"),
        Server(schedule=replayed([0.0, 0.25])),
    ],
    ids=lambda scenario: type(scenario).__name__,
)
def test_a_job_is_read_as_it_was_written(tmp_path, scenario) -> None:
    spec = _spec("sleeper", service_ms=1.0)
    write_job(tmp_path, Job(spec=spec, scenario=scenario, settings=RunSettings(cpus=(0, 1))))
    again = read_job(tmp_path)
    assert (again.spec, again.settings) == (spec, RunSettings(cpus=(0, 1)))
    if isinstance(scenario, Server):
        assert np.array_equal(again.scenario.schedule.due_ns, scenario.schedule.due_ns)
        assert again.scenario.schedule.seed == scenario.schedule.seed
        assert again.scenario.when_busy == scenario.when_busy
    else:
        assert again.scenario == scenario


def test_a_target_that_cannot_be_made_is_one_line() -> None:
    with pytest.raises(MeasurementError, match="ValueError: there is no such model"):
        run(_spec("broken"), _SHORT)
    with pytest.raises(MeasurementError, match="cannot be imported"):
        run(_spec("nobody"), _SHORT)
    with pytest.raises(InputError, match=r"package\.module:function"):
        TargetSpec(factory="edgeml").make()


def test_a_generator_that_dies_or_hangs_is_no_run() -> None:
    with pytest.raises(MeasurementError, match="ended with 9"):
        run(_spec("deadly"), _SHORT)
    before = time.monotonic()
    with pytest.raises(MeasurementError, match="did not end within 1"):
        run(_spec("endless"), _SHORT, timeout_s=1.0)
    assert time.monotonic() - before < 60


def test_callers_that_are_stuck_do_not_hold_the_generator_up() -> None:
    scenario = Server(schedule=constant(200.0, num_queries=40), callers=4)
    record = run(_spec("hanging", after=10), scenario, RunSettings(warmup=0, drain_s=0.2))
    summary = summarise(record, floor=Floor(client="in-process", reason="not measured"))
    assert summary.counts["timeout"] == 4
    assert summary.counts["dropped"] == 40 - 4 - summary.counts["ok"]
    assert not summary.verdict.valid


def test_a_late_generator_is_really_late_and_refused() -> None:
    # Each call keeps the interpreter's lock, so that what falls due meanwhile is sent late.
    scenario = Server(schedule=poisson(60.0, num_queries=120, seed=1), callers=8)
    record = run(_spec("greedy", exponent=400_000), scenario, RunSettings(warmup=2))
    verdict = judge(record)
    assert verdict.late
    assert not verdict.valid
    assert "the generator was late" in verdict.reason


def test_wrong_answers_are_refused() -> None:
    record = run(_spec("labeller", wrong=[1]), _SHORT)
    verdict = judge(record)
    assert (verdict.valid, verdict.wrong) == (False, True)
    assert "sample 1: 'nonsense' where '1' is right" in verdict.reason
    assert not judge(run(_spec("labeller", wrong=[]), _SHORT)).wrong


def test_an_unstable_run_is_refused() -> None:
    spec = _spec("sleeper", service_ms=1.0, then_ms=10.0, after=120)
    record = run(spec, SingleStream(seconds=0.01, min_queries=200), RunSettings(warmup=0))
    verdict = judge(record)
    assert (verdict.valid, verdict.unstable) == (False, True)
    assert "unstable" in verdict.reason


def test_too_few_queries_are_refused_a_percentile() -> None:
    record = run(_spec("sleeper", service_ms=0.1), SingleStream(seconds=0.01, min_queries=100))
    short = make_short(record)
    assert short.response["p90"].value_ms is not None
    assert short.response["p99"].value_ms is None
    assert "p99 needs at least 662" in short.response["p99"].reason


def make_short(record):
    assert len(record) < 662
    return summarise(record, floor=Floor(client="in-process", reason="not measured"))


def test_an_open_loop_keeps_its_pace_against_a_slow_server() -> None:
    # 100 queries a second against 30 ms each: a caller who waited would send 33 a second.
    scenario = Server(schedule=constant(100.0, num_queries=100), callers=32)
    for _ in range(4):
        record = run(_spec("sleeper", service_ms=30.0), scenario)
        if not judge(record).late:
            break
    sent = np.sort(record.sent_ns[record.sent_ns >= 0])
    assert sent.size == 100
    assert (sent[-1] - sent[0]) / 1e9 < 2 * scenario.schedule.seconds
    under_way = [np.sum((record.sent_ns <= time) & (record.done_ns > time)) for time in sent]
    assert np.median(under_way) >= 2
