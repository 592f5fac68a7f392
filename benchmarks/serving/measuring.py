"""Latency beside in-process, throughput of sixteen callers, the backend's own cost, the start."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgeml
from benchmarks.serving.costs import Cost, measure_cost
from benchmarks.serving.making import Subject
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.opening import open_transport
from edgeml.serving.tuning.load import Load, run_load

CALLERS = 16
_TIMEOUT_S = 10.0


def measure_latency(server: Any, subject: Subject, *, seconds: float) -> list[dict[str, Any]]:
    """Take turns: in-process, each way to the server, and each way to the no-op model there."""
    feed = {"image": subject.bundle.golden().tensors["image"][:1]}
    engines = {
        "grpc": TritonEngine(server.grpc, model=subject.model),
        "http": TritonEngine(server.http, model=subject.model),
        "shm": TritonEngine(server.grpc, model=subject.model, shared_memory=True),
    }
    transports = {
        way: open_transport(engine.address, shared_memory=way == "shm")
        for way, engine in engines.items()
    }

    def noop(way: str) -> Callable[[], object]:
        served = engines[way].served
        return lambda: transports[way].infer(
            served, feed, model=subject.noop, version="", timeout_s=_TIMEOUT_S
        )

    with edgeml.load(subject.bundle, variant="int8", num_threads=1) as here:
        calls: dict[str, Callable[[], object]] = {"edge": lambda: here.predict_tensors(feed)}
        for way, engine in engines.items():
            calls[way] = lambda engine=engine: engine.run(feed)
            calls[f"noop-{way}"] = noop(way)
        plan = TimingPlan(rounds=2000, calls=3, budget_s=seconds)
        rows = compare_latency(calls, baseline="edge", plan=plan)
        served = engines["grpc"].run(feed)["probabilities"][0]
        assert np.array_equal(
            served, np.float32(list(here.predict_tensors(feed)[0].scores.values()))
        )
    for each in (*engines.values(), *transports.values()):
        each.close()
    edge = rows["edge"].p50_ms
    return [
        {
            "size": subject.size,
            "way": way,
            "edge_p50_ms": edge,
            "p50_ms": rows[way].p50_ms,
            "beyond_ms": rows[way].p50_ms - edge,
            "noop_p50_ms": rows[f"noop-{way}"].p50_ms,
            "calls": rows[way].num_calls,
        }
        for way in engines
    ]


def measure_throughput(
    server: Any, subject: Subject, work: Path, *, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Take turns: in-process one by one, and sixteen callers in a process of their own."""
    file = work / f"feed{subject.size}.npy"
    image = subject.bundle.golden().tensors["image"][:1]
    np.save(file, image)
    urls = {"grpc": server.grpc, "http": server.http}
    here_per_s: dict[int, list[float]] = {1: [], 8: []}
    beside: list[float] = []
    there: dict[str, list[Any]] = {way: [] for way in urls}
    with edgeml.load(subject.bundle, variant="int8", num_threads=1) as here:
        for _ in range(rounds):
            for batch, found in here_per_s.items():
                feed = {"image": np.repeat(image, batch, axis=0)}
                found.append(
                    batch * _calls_per_s(lambda feed=feed: here.predict_tensors(feed), seconds / 2)
                )
            with _busy_neighbour():
                beside.append(
                    _calls_per_s(lambda: here.predict_tensors({"image": image}), seconds / 2)
                )
            for way, url in urls.items():
                load = Load(
                    url=url,
                    model=subject.model,
                    inputs={"image": str(file)},
                    callers=CALLERS,
                    seconds=seconds,
                )
                there[way].append(run_load(load))
    best = {batch: statistics.median(found) for batch, found in here_per_s.items()}
    return [
        {
            "size": subject.size,
            "way": way,
            "edge_per_s": best[1],
            "edge_by_8_per_s": best[8],
            "edge_beside_busy_core_per_s": statistics.median(beside),
            "per_s": statistics.median(one.per_s for one in found),
            "ratio": statistics.median(
                one.per_s / edge for one, edge in zip(found, here_per_s[1], strict=True)
            ),
            "ratio_by_8": statistics.median(
                one.per_s / edge for one, edge in zip(found, here_per_s[8], strict=True)
            ),
            "p99_ms": statistics.median(one.p99_ms for one in found),
            "errors": sum(one.errors for one in found),
        }
        for way, found in there.items()
    ]


def measure_costs(
    server: Any, subject: Subject, work: Path, *, seconds: float
) -> list[dict[str, Any]]:
    """Return the backend's own cost, for one request of eight and for eight that are joined."""
    image = subject.bundle.golden().tensors["image"][:1]
    eight, one = work / f"eight{subject.size}.npy", work / f"one{subject.size}.npy"
    np.save(eight, np.repeat(image, 8, axis=0))
    np.save(one, image)
    cases = {"one request of 8": (eight, 1), "requests of 1, joined": (one, CALLERS)}
    rows = []
    for name, (file, callers) in cases.items():
        load = Load(
            url=server.grpc,
            model=subject.model,
            inputs={"image": str(file)},
            callers=callers,
            seconds=seconds,
        )
        cost: Cost = measure_cost(server, subject.model, lambda load=load: run_load(load))
        rows.append(
            {
                "size": subject.size,
                "case": name,
                "requests_a_run": cost.requests / cost.runs,
                "run_us": cost.run_us,
                "python_us": cost.python_us,
                "backend_us": cost.backend_us,
            }
        )
    return rows


def measure_start(repository: Path, *, times: int) -> dict[str, Any]:
    """Return how long a start takes until every model of a repository is ready."""
    taken: list[float] = []
    models = 0
    for _ in range(times):
        started = time.perf_counter()
        with edgeml.serve_triton(repository, supervised=False) as server:
            taken.append(time.perf_counter() - started)
            states = [row.state for row in server.models()]
            assert set(states) == {"ready"}, states
            models = len(states)
    return {"models": models, "seconds": statistics.median(taken), "times": times}


@contextlib.contextmanager
def _busy_neighbour() -> Iterator[None]:
    """Keep one core busy: cores of a virtual machine may be halves of one that they share."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _calls_per_s(call: Callable[[], object], seconds: float) -> float:
    for _ in range(5):
        call()
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        call()
        count += 1
    return count / spent
