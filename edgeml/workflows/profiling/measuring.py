"""The runs of a profile: every target in every scenario, in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.bench.arrivals import poisson
from edgeml.bench.percentiles import queries_needed
from edgeml.bench.record import Record
from edgeml.bench.running import run
from edgeml.bench.scenarios import MultiStream, Offline, Scenario, Server, SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import judge
from edgeml.workflows.profiling.rows import Row, Subject, make_row
from edgeml.workflows.profiling.settings import ProfileSettings

Say = Callable[[str], None]
Keep = Callable[[str, Record], None]
# Where nobody asks for a rate: so much of what the slowest target can answer.
_UTILISATION = 0.4
_CALLERS = 64
# Beyond it a generator in Python, on processors that it shares, would be what is measured.
_MOST_PER_S = 200.0
_MAX_QUERIES = 20_000
# A p99 needs some hundreds of queries; a run may take somewhat longer for them, not much.
_AT_MOST_S = 14.0
_MAX_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Measurable:
    """One target, ready to be measured.

    Attributes:
        subject: What its rows are about.
        factory: Function of :mod:`edgeml.workflows.profiling.factories`.
        options: Its arguments.
    """

    subject: Subject
    factory: str
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The target's name."""
        return self.subject.target

    def spec(self, *, batch: int = 1) -> TargetSpec:
        """Return how the generator's process makes it."""
        return TargetSpec(
            factory=f"edgeml.workflows.profiling.factories:{self.factory}",
            options={**self.options, "batch": batch},
        )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What goes through all runs of a profile."""

    settings: ProfileSettings
    say: Say
    keep: Keep
    retry_until: float


def measure_all(
    targets: Sequence[Measurable],
    scenarios: Sequence[str],
    settings: ProfileSettings,
    *,
    rate_per_s: float | None,
    say: Say,
    keep: Keep = lambda name, record: None,
) -> list[Row]:
    """Measure targets in scenarios.

    Single-stream is always measured, since the rates of the others follow from it; its rows are
    returned where they were asked for or not.

    Args:
        targets: What to measure.
        scenarios: Names of scenarios.
        settings: How much.
        rate_per_s: Rate of scheduled arrivals; None takes 40 % of what the slowest can answer.
        say: Told of each run.
        keep: Given each run that counts, with a name: target, scenario, and its number where there
            are several.

    Returns:
        One row a scenario and target.
    """
    until = time.monotonic() + settings.retry_s
    plan = _Plan(settings=settings, say=say, keep=keep, retry_until=until)
    single = _in_turns(targets, lambda: SingleStream(seconds=settings.run_s), plan, "single-stream")
    rows = list(single.values())
    if "multi-stream" in scenarios:
        several = _in_turns(
            targets,
            lambda: MultiStream(callers=settings.callers, seconds=settings.run_s),
            plan,
            "multi-stream",
        )
        rows += several.values()
    if "server" in scenarios:
        rate = rate_per_s or common_rate(list(single.values()))
        for target in targets:
            say(f"{target.name}, server, {rate:.3g} a second")
            scenario = arrivals(target, rate, settings.server_s, seed=settings.seed)
            rows.append(_once(target, scenario, plan))
    if "offline" in scenarios:
        for target in targets:
            say(f"{target.name}, offline, {settings.batch} a query")
            p50 = single[target.name].p50_ms or 1.0
            count = int(np.clip(1e3 * settings.offline_s / (p50 * settings.batch), 8, _MAX_QUERIES))
            everything = Offline(
                num_queries=count,
                callers=_offline_callers(target),
                samples_per_query=settings.batch,
            )
            rows.append(_once(target, everything, plan, batch=settings.batch))
    return rows


def common_rate(rows: Sequence[Row]) -> float:
    """Return a rate that every target can answer, so that all get the same one."""
    slowest = max((row.p50_ms or 1.0) for row in rows)
    return min(_UTILISATION * 1e3 / slowest, _MOST_PER_S)


def arrivals(target: Measurable, rate_per_s: float, seconds: float, *, seed: int) -> Server:
    """Return scheduled arrivals for a target: the same times for each, by the seed.

    In-process there is one caller, as there is one model: the others wait in a queue, and their
    wait counts. A server queues by itself, so that it gets a connection for each query under way.
    """
    wanted = max(rate_per_s * seconds, min(queries_needed(0.99), rate_per_s * _AT_MOST_S))
    count = int(np.clip(wanted, 50, _MAX_QUERIES))
    schedule = poisson(rate_per_s, num_queries=count, seed=seed)
    if target.factory == "edge":
        return Server(schedule=schedule, callers=1, when_busy="queue")
    return Server(schedule=schedule, callers=_CALLERS)


def _offline_callers(target: Measurable) -> int:
    """Return how many queries are under way: a server would else wait for its caller."""
    return 1 if target.factory == "edge" else 2


def _in_turns(
    targets: Sequence[Measurable],
    scenario: Callable[[], Scenario],
    plan: _Plan,
    name: str,
) -> dict[str, Row]:
    """Run targets in turns, in an order drawn anew for each round."""
    settings = plan.settings
    order = random.Random(settings.seed)
    records: dict[str, list[Record]] = {target.name: [] for target in targets}
    attempts = dict.fromkeys(records, 1)
    for number in range(settings.repeats):
        for target in order.sample(list(targets), len(targets)):
            plan.say(f"{target.name}, {name}, run {number + 1} of {settings.repeats}")
            record, tries = _run(target, scenario(), plan)
            records[target.name].append(record)
            plan.keep(f"{target.name}-{name}-{number + 1}", record)
            attempts[target.name] = max(attempts[target.name], tries)
    return {
        target.name: make_row(target.subject, records[target.name], attempts=attempts[target.name])
        for target in targets
    }


def _once(target: Measurable, scenario: Scenario, plan: _Plan, *, batch: int = 1) -> Row:
    record, tries = _run(target, scenario, plan, batch=batch)
    plan.keep(f"{target.name}-{record.scenario}", record)
    return make_row(target.subject, [record], batch=batch, attempts=tries)


def _run(
    target: Measurable, scenario: Scenario, plan: _Plan, *, batch: int = 1
) -> tuple[Record, int]:
    """Run once, and once more where the machine was not quiet; the number of tries is kept."""
    tries = 0
    while True:
        tries += 1
        record = run(target.spec(batch=batch), scenario, RunSettings(seed=plan.settings.seed))
        verdict = judge(record)
        disturbed = not verdict.wrong and (verdict.unstable or verdict.late)
        if not disturbed or tries == _MAX_ATTEMPTS or time.monotonic() > plan.retry_until:
            return record, tries
