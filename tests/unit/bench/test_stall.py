"""A stall in the server: the schedule sees it, the stopwatch of a blocked client does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeml.bench.arrivals import constant
from edgeml.bench.floors import Floor
from edgeml.bench.null_server import null_server
from edgeml.bench.record import Record
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.settings import RunSettings
from edgeml.bench.summary import Summary, summarise
from edgeml.bench.targets import TargetSpec

_STALL_MS = 200.0
_SERVICE_MS = 1.0
_QUERIES = 800
_WARMUP = 10


def _stalled(file: Path, *, callers: int, stall_ms: float = _STALL_MS) -> Record:
    file.write_bytes(b"x")
    stall_at = _WARMUP + _QUERIES // 2
    with null_server(service_ms=_SERVICE_MS, stall_at=stall_at, stall_ms=stall_ms) as port:
        spec = TargetSpec(
            factory="edgeml.bench.raw_http:http_target",
            options={"url": f"http://127.0.0.1:{port}/", "files": [str(file)]},
        )
        schedule = constant(250.0, num_queries=_QUERIES)
        scenario = Server(schedule=schedule, callers=callers, when_busy="queue")
        return run(spec, scenario, RunSettings(warmup=_WARMUP))


def _summary(record: Record) -> Summary:
    return summarise(record, floor=Floor(client="raw-http", reason="not measured"))


def _p99(summary: Summary) -> tuple[float, float]:
    response, service = (row["p99"].value_ms for row in (summary.response, summary.service))
    assert response is not None
    assert service is not None
    return response, service


def test_a_stall_shows_in_the_response_and_hides_from_the_service_time(tmp_path: Path) -> None:
    # One connection, as a client has that sends its next query after the last answer. 50 queries
    # fall due in the stall, 6 % of all; the stopwatch around the call sees one slow query of 800.
    for _ in range(4):  # a neighbour may stall the stopwatch too
        record = _stalled(tmp_path / "body", callers=1)
        response, service = _p99(_summary(record))
        if service < _STALL_MS / 4:
            break
    assert response > 0.6 * _STALL_MS
    assert service < _STALL_MS / 4
    assert np.count_nonzero(record.service_ms > _STALL_MS) >= 1
    # What the schedule charges is what the backlog of the stall amounts to.
    assert np.count_nonzero(record.response_ms > _STALL_MS / 2) >= 25


def test_with_enough_connections_both_show_it(tmp_path: Path) -> None:
    record = _stalled(tmp_path / "body", callers=64)
    response, service = _p99(_summary(record))
    assert response > 0.6 * _STALL_MS
    assert service == pytest.approx(response, rel=0.2)


def test_without_a_stall_the_response_has_none(tmp_path: Path) -> None:
    for _ in range(4):
        response, _ = _p99(_summary(_stalled(tmp_path / "body", callers=1, stall_ms=0.0)))
        if response < _STALL_MS / 4:
            break
    assert response < _STALL_MS / 4
