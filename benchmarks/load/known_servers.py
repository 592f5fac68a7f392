"""Servers whose behaviour is known: a stall that is planted, and a queue that can be computed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bench.arrivals import constant, poisson
from edgeml.bench.null_server import null_server
from edgeml.bench.queueing import model_server
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import judge

_WARMUP = 20


def measure_stall(*, num_queries: int = 2000, stall_ms: float = 200.0) -> dict[str, Any]:
    """Ask a server that stalls once, over one connection, at 250 queries a second."""
    with (
        tempfile.TemporaryDirectory() as folder,
        null_server(service_ms=1.0, stall_at=_WARMUP + num_queries // 2, stall_ms=stall_ms) as port,
    ):
        schedule = constant(250.0, num_queries=num_queries)
        scenario = Server(schedule=schedule, callers=1, when_busy="queue")
        record = run(_spec(port, folder), scenario, RunSettings(warmup=_WARMUP))
    return {
        "stall_ms": stall_ms,
        "num_queries": num_queries,
        "response_ms": _quantiles(record.response_ms),
        "service_ms": _quantiles(record.service_ms),
        "valid": judge(record).valid,
    }


def measure_queue(
    *, service_ms: float = 4.5, rates_per_s: tuple[float, ...] = (60.0, 120.0), num_queries: int
) -> list[dict[str, Any]]:
    """Compare the queue model with the engine, on a server that takes one query at a time."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        null_server(service_ms=service_ms) as port,
    ):
        spec = _spec(port, folder)
        alone = run(spec, Server(schedule=constant(20.0, num_queries=200))).service_ms
        for rate in rates_per_s:
            schedule = poisson(rate, num_queries=num_queries, seed=4)
            record = run(spec, Server(schedule=schedule, callers=64))
            modelled = model_server(alone, rate_per_s=rate)
            rows.append(
                {
                    "rate_per_s": rate,
                    "utilisation": modelled.utilisation,
                    "measured_ms": _quantiles(record.response_ms),
                    "modelled_ms": {
                        "p50": modelled.p50_ms,
                        "p90": modelled.p90_ms,
                        "p99": modelled.p99_ms,
                    },
                    "valid": judge(record).valid,
                    "reason": judge(record).reason,
                }
            )
    return rows


def _spec(port: int, folder: str) -> TargetSpec:
    body = Path(folder) / "body"
    body.write_bytes(bytes(1024))
    options = {"url": f"http://127.0.0.1:{port}/", "files": [str(body)]}
    return TargetSpec(factory="edgeml.bench.raw_http:http_target", options=options)


def _quantiles(values: Any) -> dict[str, float]:
    shares = (0.5, 0.9, 0.99)
    found = np.quantile(values, shares, method="inverted_cdf")
    return {f"p{100 * share:g}": float(value) for share, value in zip(shares, found, strict=True)}
