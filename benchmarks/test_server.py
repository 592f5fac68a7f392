"""Behind a server on this machine: the same files and labels over every protocol."""

from __future__ import annotations

from typing import Any

import pytest

import edgeml
from benchmarks.recording import Model, keep, keep_summary
from edgeml.bench.arrivals import poisson
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.summary import summarise
from edgeml.bench.targets import TargetSpec
from edgeml.workflows.profiling import factories
from edgeml.workflows.profiling.deployments import parse_targets
from edgeml.workflows.profiling.floors import floor_of
from edgeml.workflows.profiling.servers import Running

_TARGETS = ("http", "triton-grpc", "triton-http", "triton-http-json", "triton-shm")
_RATE_PER_S, _QUERIES = 40.0, 240


@pytest.mark.parametrize("target", _TARGETS)
def test_one_request(benchmark, model: Model, servers: dict[str, Running], target: str) -> None:
    """One caller who waits; decoding, the network of this machine and parsing are inside."""
    made = _target(model, servers[target], target)
    benchmark.group = "server on this machine: one picture's file to its label, one thread"
    try:
        ask = made.connect()
        count = 300 if target == "triton-http-json" else 1000
        label = benchmark.pedantic(ask, args=(0,), rounds=count, iterations=1, warmup_rounds=30)
        keep(
            benchmark,
            model,
            _served_by(model, servers[target], target),
            threads=servers[target].threads,
            batch=1,
            client=made.client,
            placement="co-located",
        )
    finally:
        made.close()
    with edgeml.load(model.bundle, num_threads=1) as here:
        item = model.bundle.open_file(model.bundle.golden().inputs[0])
        assert label == here.predict(item).label


@pytest.mark.parametrize("target", ["http", "triton-grpc"])
def test_arrivals(benchmark, model: Model, servers: dict[str, Running], target: str) -> None:
    """The same scheduled arrivals at each server, from a generator in its own process."""
    spec = _spec(model, servers[target], target)
    schedule = poisson(_RATE_PER_S, num_queries=_QUERIES, seed=0)
    record = benchmark.pedantic(run, args=(spec, Server(schedule=schedule)), rounds=1, iterations=1)
    (deployment,) = parse_targets([target])
    summary = summarise(record, floor=floor_of(deployment, servers[target]))
    keep_summary(
        benchmark,
        model,
        _served_by(model, servers[target], target),
        summary,
        threads=servers[target].threads,
        batch=1,
        placement="co-located",
    )
    assert summary.errors == 0
    assert summary.send_lag_p99_ms is not None


def _options(model: Model, server: Running, target: str) -> tuple[str, dict[str, Any]]:
    path = str(model.path.absolute())
    if target == "http":
        return "http", {"bundle": path, "url": server.urls["http"]}
    common = {"bundle": path, "model": server.model}
    if target == "triton-http-json":
        return "triton_json", {**common, "url": server.urls["http"]}
    url = server.urls["http" if target == "triton-http" else "grpc"]
    return "triton", {**common, "url": url, "shared_memory": target == "triton-shm"}


def _spec(model: Model, server: Running, target: str) -> TargetSpec:
    name, options = _options(model, server, target)
    return TargetSpec(factory=f"edgeml.workflows.profiling.factories:{name}", options=options)


def _target(model: Model, server: Running, target: str) -> factories.ItemTarget:
    name, options = _options(model, server, target)
    made: factories.ItemTarget = getattr(factories, name)(**options)
    return made


def _served_by(model: Model, server: Running, target: str) -> str:
    if target == "http":
        return f"http/cpu/{model.bundle.manifest.chosen}/-"
    with edgeml.connect(server.urls["grpc"], model=server.model, bundle=model.bundle) as predictor:
        return predictor.served_by
