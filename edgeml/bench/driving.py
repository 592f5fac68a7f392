"""Drive a target through a scenario, in this process, and record what happened.

The generator's process calls this (``edgeml.bench.worker``); call it yourself only where a target
must live in your process, and know that whatever else runs there is measured too.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.caller import Caller
from edgeml.bench.clock import Clock, SystemClock
from edgeml.bench.record import Record
from edgeml.bench.recording import build_record
from edgeml.bench.scenarios import MultiStream, Offline, Scenario, Server, SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import Target
from edgeml.bench.turnstile import Turnstile

_MAX_KEPT = 20_000  # answers of one run, to be checked after it
_LEAD_NS = 5_000_000  # from the last caller's readiness to the first arrival
_PAUSE_NS = 1_000_000  # after a failed call of a closed loop, which would otherwise race


def drive(
    target: Target,
    scenario: Scenario,
    settings: RunSettings | None = None,
    *,
    clock: Clock | None = None,
) -> Record:
    """Run a scenario against a target.

    Args:
        target: What is asked; left open.
        scenario: How it is asked.
        settings: How the generator works.
        clock: The clock.

    Raises:
        Exception: What the target raised while it connected or warmed up.
    """
    settings = settings or RunSettings()
    clock = clock or SystemClock(spin_us=settings.spin_us)
    order = np.random.default_rng(settings.seed).permutation(target.num_samples).tolist()
    max_kept = max(1, _MAX_KEPT // scenario.callers)
    callers = [
        Caller(target, order=order, clock=clock, max_kept=max_kept) for _ in range(scenario.callers)
    ]
    with _garbage(enabled=settings.gc_enabled):
        if isinstance(scenario, SingleStream | MultiStream):
            used = _closed_loop(scenario, callers, settings, clock)
            due_ns, dropped = None, list[int]()
        else:
            due_ns, dropped, used = _open_loop(scenario, callers, settings, clock)
    conditions = {**settings.to_json(), "callers": len(callers), **used}
    return build_record(
        target, scenario, callers, due_ns=due_ns, dropped=dropped, conditions=conditions
    )


def _closed_loop(
    scenario: SingleStream | MultiStream,
    callers: Sequence[Caller],
    settings: RunSettings,
    clock: Clock,
) -> dict[str, Any]:
    each = math.ceil(scenario.min_queries / len(callers))
    duration_ns = int(scenario.seconds * 1e9)

    def work(number: int, start_ns: int) -> None:
        caller, query = callers[number], number
        while caller.num_asked < each or clock.now_ns() < start_ns + duration_ns:
            if not caller.ask(query):
                clock.wait_until(clock.now_ns() + _PAUSE_NS)
            query += len(callers)

    team = _Team(callers, settings, clock)
    start_ns = team.start(work)
    team.wait_until(None)
    return team.used(start_ns)


def _open_loop(
    scenario: Server | Offline, callers: Sequence[Caller], settings: RunSettings, clock: Clock
) -> tuple[npt.NDArray[np.int64], list[int], dict[str, Any]]:
    if isinstance(scenario, Server):
        offsets, when_busy = scenario.schedule.due_ns, scenario.when_busy
    else:
        offsets, when_busy = np.zeros(scenario.num_queries, dtype=np.int64), "queue"
    gate: list[Turnstile] = []

    def prepare(start_ns: int) -> None:
        due = (offsets + start_ns).tolist()
        gate.append(Turnstile(due, callers=len(callers), when_busy=when_busy, clock=clock))

    def work(number: int, _start_ns: int) -> None:
        turnstile = gate[0]
        while (taken := turnstile.take()) is not None:
            query, able_ns = taken
            callers[number].ask(query, able_ns=able_ns)
            turnstile.give_back(callers[number].done_ns)

    team = _Team(callers, settings, clock)
    start_ns = team.start(work, prepare)
    ends = isinstance(scenario, Server)
    team.wait_until(start_ns + int(offsets[-1]) + int(settings.drain_s * 1e9) if ends else None)
    gate[0].stop()
    return offsets + start_ns, gate[0].dropped, team.used(start_ns)


class _Team:
    """The callers' threads: they connect and warm up, start together, and are waited for."""

    def __init__(self, callers: Sequence[Caller], settings: RunSettings, clock: Clock) -> None:
        self._callers = callers
        self._settings = settings
        self._clock = clock
        self._broken: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(
        self, work: Callable[[int, int], None], prepare: Callable[[int], None] | None = None
    ) -> int:
        """Return the start time, once all callers are ready."""
        ready, go = threading.Semaphore(0), threading.Event()
        begin: list[int] = []

        warmup = math.ceil(self._settings.warmup / len(self._callers))

        def run(number: int) -> None:
            try:
                self._callers[number].connect(warmup)
            except BaseException as exc:
                self._broken.append(exc)
            ready.release()
            go.wait()
            if begin:
                try:
                    work(number, begin[0])
                except BaseException as exc:  # an error of the generator's own, or an interrupt
                    self._broken.append(exc)

        self._threads = [
            threading.Thread(target=run, args=(number,), daemon=True)
            for number in range(len(self._callers))
        ]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            ready.acquire()
        if not self._broken:
            if not self._settings.gc_enabled:
                gc.collect()
                gc.freeze()
            self._before = resource.getrusage(resource.RUSAGE_SELF)
            start_ns = self._clock.now_ns() + _LEAD_NS
            if prepare is not None:
                prepare(start_ns)
            begin.append(start_ns)
        go.set()
        self._raise_broken()
        return begin[0]

    def wait_until(self, end_ns: int | None) -> None:
        """Wait for the callers, at most until a time."""
        for thread in self._threads:
            left = None if end_ns is None else max(0.0, (end_ns - self._clock.now_ns()) / 1e9)
            thread.join(left)
        self._raise_broken()

    def used(self, start_ns: int) -> dict[str, Any]:
        """Return what the generator's process used, as JSON values."""
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = max(self._clock.now_ns() - start_ns, 1) / 1e9
        cpu = after.ru_utime + after.ru_stime - self._before.ru_utime - self._before.ru_stime
        return {
            "generator_cpu_share": round(cpu / seconds, 4),
            "preemptions": after.ru_nivcsw - self._before.ru_nivcsw,
            "processors": sorted(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 2),
            "stuck_callers": sum(thread.is_alive() for thread in self._threads),
        }

    def _raise_broken(self) -> None:
        if self._broken:
            raise self._broken[0]


@contextlib.contextmanager
def _garbage(*, enabled: bool) -> Iterator[None]:
    """Keep the collector off inside the block unless it is wanted, and put it back after."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        yield
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
