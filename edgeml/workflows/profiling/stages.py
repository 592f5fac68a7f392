"""Where an answer's time goes, stage by stage: means of calls made one after the other.

A stage that cannot be told from its neighbour is None, and a note says where its time stands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.errors import EdgemlError, ServerError
from edgeml.tasks.predictor import Task
from edgeml.workflows.loading import task_of
from edgeml.workflows.profiling.http_caller import HttpCaller
from edgeml.workflows.profiling.json_caller import JsonCaller
from edgeml.workflows.profiling.samples import Samples
from edgeml.workflows.profiling.servers import Running
from edgeml.workflows.profiling.statistics import read_totals

STAGES = (
    "decode",
    "serialise",
    "transport",
    "queue",
    "batch_wait",
    "compute_in",
    "infer",
    "compute_out",
    "deserialise",
    "postprocess",
)
_CALLS, _WARMUP, _BUDGET_S = 300, 20, 4.0


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """The stages of one target.

    Attributes:
        target: Its name.
        stages_ms: Mean milliseconds by stage; None where it cannot be told.
        total_ms: Mean of the whole call.
        num_calls: Calls that the means are of.
        notes: Where the time of what cannot be told stands.
    """

    target: str
    stages_ms: Mapping[str, float | None]
    total_ms: float
    num_calls: int
    notes: tuple[str, ...] = field(default=())

    @property
    def server_ms(self) -> float:
        """What the server itself takes for one request that does not wait."""
        names = ("compute_in", "infer", "compute_out")
        return sum(self.stages_ms[name] or 0.0 for name in names)

    def to_json(self) -> dict[str, Any]:
        """Return the breakdown as JSON values."""
        return {
            "target": self.target,
            "stages_ms": dict(self.stages_ms),
            "total_ms": self.total_ms,
            "num_calls": self.num_calls,
            "statistic": "mean",
            "notes": list(self.notes),
        }


class Stopwatch:
    """Adds up named laps of many calls."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin a call."""
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.add(name, 1e3 * (now - self._last))
        self._last = time.perf_counter()

    def add(self, name: str, milliseconds: float) -> None:
        """Add a time that was measured elsewhere."""
        self._sums[name] = self._sums.get(name, 0.0) + milliseconds

    def means(self, count: int) -> dict[str, float]:
        """Return mean milliseconds by stage."""
        return {name: total / count for name, total in self._sums.items()}


def break_down(
    kind: str, *, bundle: Bundle, samples: Samples, server: Running | None, num_threads: int
) -> Breakdown:
    """Measure the stages of one target.

    Args:
        kind: The target's name.
        bundle: What is deployed.
        samples: What is sent.
        server: The server; None for ``edge``.
        num_threads: Threads of a predictor in this process.

    Raises:
        EdgemlError: The target does not answer.
    """
    if server is None:
        return _edge(bundle, samples, num_threads)
    if kind == "http":
        return _http(samples, server)
    if kind == "triton-http-json":
        return _json(bundle, samples, server)
    return _triton(kind, bundle, samples, server)


def _warm_up(call: Callable[[int, Stopwatch], None]) -> None:
    for number in range(_WARMUP):
        call(number, Stopwatch())


def _repeat(call: Callable[[int, Stopwatch], None]) -> tuple[dict[str, float], float, int]:
    """Return mean laps, the mean of whole calls, and their number."""
    watch, count, begun = Stopwatch(), 0, time.perf_counter()
    total = 0.0
    while count < _CALLS and (count < 10 or time.perf_counter() - begun < _BUDGET_S):
        before = time.perf_counter()
        watch.start()
        call(count, watch)
        total += time.perf_counter() - before
        count += 1
    return watch.means(count), 1e3 * total / count, count


def _finish(
    target: str, found: Mapping[str, float], total_ms: float, count: int, notes: tuple[str, ...]
) -> Breakdown:
    stages = {name: found.get(name) for name in STAGES}
    return Breakdown(
        target=target, stages_ms=stages, total_ms=total_ms, num_calls=count, notes=notes
    )


def _edge(bundle: Bundle, samples: Samples, num_threads: int) -> Breakdown:
    with edgeml.load(bundle, num_threads=num_threads) as predictor:
        task = task_of(bundle)

        def call(number: int, watch: Stopwatch) -> None:
            item = samples.items[number % len(samples.items)]
            feed = task.collate([task.prepare(item)])
            watch.lap("decode")
            outputs = predictor.run(feed)
            watch.lap("infer")
            task.interpret(outputs, served_by=predictor.served_by)
            watch.lap("postprocess")

        _warm_up(call)
        found, total, count = _repeat(call)
    notes = ("in-process: nothing is sent, and the queue of callers is in the server scenario",)
    return _finish("edge", found, total, count, notes)


def _http(samples: Samples, server: Running) -> Breakdown:
    caller = HttpCaller(next(iter(server.urls.values())))

    def call(number: int, watch: Stopwatch) -> None:
        at = number % len(samples.bodies)
        body, kind = samples.bodies[at], samples.kinds[at]
        status, contents = caller.exchange("POST", caller.path, body, kind)
        timing = dict(caller.timing)
        watch.lap("exchange")
        json.loads(contents)
        watch.lap("deserialise")
        if status != 200:
            raise ServerError(f"it answered {status}", url=caller.path)
        for name, value in timing.items():
            watch.add(name, value)

    try:
        _warm_up(call)
        found, total, count = _repeat(call)
    finally:
        caller.close()
    if "infer" not in found:
        silent = ("this app sends no Server-Timing: all that is its own stands in transport",)
        found["transport"] = found.pop("exchange")
        return _finish("http", found, total, count, silent)
    own = sum(found[name] for name in ("queue", "decode", "infer", "postprocess") if name in found)
    found["transport"] = max(found.pop("exchange") - own, 0.0)
    notes = (
        "queue, decode, infer and postprocess are the app's own clock (Server-Timing)",
        "transport holds the socket, uvicorn, FastAPI and writing the answer's JSON",
        "bodies are ready to be sent: nothing is serialised",
    )
    return _finish("http", found, total, count, notes)


def _json(bundle: Bundle, samples: Samples, server: Running) -> Breakdown:
    url = server.urls["http"]
    caller = JsonCaller(bundle, url=url, model=server.model)

    def call(number: int, watch: Stopwatch) -> None:
        item = samples.items[number % len(samples.items)]
        feed = caller.task.collate([caller.task.prepare(item)])
        watch.lap("decode")
        body = caller.write(feed)
        watch.lap("serialise")
        contents = caller.send(body)
        watch.lap("exchange")
        outputs = caller.read(contents)
        watch.lap("deserialise")
        caller.task.interpret(outputs, served_by="")
        watch.lap("postprocess")

    try:
        found, total, count, notes = _with_statistics(call, url, server.model)
    finally:
        caller.caller.close()
    return _finish("triton-http-json", found, total, count, notes)


def _triton(kind: str, bundle: Bundle, samples: Samples, server: Running) -> Breakdown:
    shared = kind == "triton-shm"
    scheme = "http" if kind == "triton-http" else "grpc"
    url = server.urls.get(scheme) or next(iter(server.urls.values()))
    notes: tuple[str, ...]
    with edgeml.connect(url, model=server.model, bundle=bundle, shared_memory=shared) as predictor:
        task: Task = task_of(bundle)

        def call(number: int, watch: Stopwatch) -> None:
            item = samples.items[number % len(samples.items)]
            feed = task.collate([task.prepare(item)])
            watch.lap("decode")
            outputs = predictor.run(feed)
            watch.lap("exchange")
            task.interpret(outputs, served_by=predictor.served_by)
            watch.lap("postprocess")

        statistics = server.urls.get("http")
        if statistics is None:
            _warm_up(call)
            found, total, count = _repeat(call)
            found["transport"] = found.pop("exchange")
            notes = ("the server's statistics are read over HTTP, whose address is not known",)
        else:
            found, total, count, notes = _with_statistics(call, statistics, server.model)
    notes += ("our client's writing and reading of messages stands in transport",)
    return _finish(kind, found, total, count, notes)


def _with_statistics(
    call: Callable[[int, Stopwatch], None], url: str, model: str
) -> tuple[dict[str, float], float, int, tuple[str, ...]]:
    """Repeat a call and split its exchange by what the server's statistics say."""
    _warm_up(call)
    read = partial(read_totals, url, model)
    try:
        before = read()
        found, total, count = _repeat(call)
        server = read().since(before)
    except EdgemlError:
        found, total, count = _repeat(call)
        server = {}
    exchange = found.pop("exchange")
    if not server:
        found["transport"] = exchange
        return found, total, count, ("the server gave no statistics: all stands in transport",)
    named = {
        "queue": "queue",
        "compute_in": "compute_input",
        "infer": "compute_infer",
        "compute_out": "compute_output",
    }
    found.update({stage: server[part] for stage, part in named.items()})
    within = sum(server[part] for part in named.values())
    found["transport"] = float(np.maximum(exchange - within, 0.0))
    notes = (
        "queue, compute_in, infer and compute_out are differences of the server's totals",
        "the server counts the wait for a batch in queue: it cannot be told apart",
        "transport holds the network and the server's frontend",
    )
    return found, total, count, notes
