"""From nothing to the first answer: a fresh process at the edge, and servers from their command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import edgeml
from benchmarks.recording import Model
from edgeml.runtime.host import detect_host
from edgeml.workflows.profiling.deployments import parse_targets
from edgeml.workflows.profiling.footprint import measure_footprint
from edgeml.workflows.profiling.http_caller import HttpCaller
from edgeml.workflows.profiling.servers import memory_mb, running_servers

_STARTS = {"quick": 5, "full": 15}


def test_edge(benchmark, model: Model, tier: str) -> None:
    """Import, load, first answer; memory; what must be sent to a device."""
    variant = model.bundle.variant()
    found = measure_footprint(model.bundle, variant, num_threads=1, starts=_STARTS[tier])
    benchmark.pedantic(
        measure_footprint,
        args=(model.bundle, variant),
        kwargs={"num_threads": 1, "starts": 1},
        rounds=1,
    )
    benchmark.extra_info.update(
        {**model.facts(variant.name), **found.to_json(), "host": detect_host().to_json()}
    )
    assert 0 < found.over_the_air_mb <= found.disk_mb * 1.01
    assert found.rss_mb <= found.peak_mb * 1.01


@pytest.mark.parametrize("target", ["http", "triton-grpc"])
def test_server(benchmark, model: Model, items: list[bytes], target: str) -> None:
    """From the command to ready, then the first answer; memory of all its processes."""
    found: dict[str, Any] = {}

    def start() -> None:
        with running_servers(model.bundle, parse_targets([target]), num_threads=1) as running:
            server = running[target]
            found["start_s"] = server.start_s
            first = _first_answer(model, server.urls, server.model, target)
            assert first(items[0])
            found["memory_mb"] = memory_mb(server.pid or 0)

    benchmark.pedantic(start, rounds=1)
    benchmark.extra_info.update(
        {**model.facts(model.bundle.manifest.chosen), **found, "host": detect_host().to_json()}
    )
    assert found["memory_mb"]


def _first_answer(
    model: Model, urls: dict[str, str], name: str, target: str
) -> Callable[[bytes], str | None]:
    if target == "http":

        def post(item: bytes) -> str | None:
            caller = HttpCaller(urls["http"])
            try:
                return str(caller.post(item, "image/png")["label"])
            finally:
                caller.close()

        return post

    def ask(item: bytes) -> str | None:
        with edgeml.connect(urls["grpc"], model=name, bundle=model.bundle) as predictor:
            return predictor.predict(item).label

    return ask
