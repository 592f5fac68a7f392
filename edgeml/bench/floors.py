"""What the generator and its client cost by themselves: the same client against a null server.

No latency below its client's floor can be measured, and a difference of that size between two rows
is a difference between clients. So the floor stands in every report.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bench.null_server import null_server
from edgeml.bench.running import run
from edgeml.bench.scenarios import SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import CallTarget, TargetSpec
from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The cost of a client.

    Attributes:
        client: The client, such as ``raw-http``.
        server: What it talked to, such as ``null server``.
        p50_us: Median of its calls; None where it was not measured.
        p99_us: 99th percentile; None where it was not measured.
        num_queries: Calls counted.
        reason: Why it was not measured; empty where it was.
    """

    client: str
    server: str = ""
    p50_us: float | None = None
    p99_us: float | None = None
    num_queries: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the floor as JSON values."""
        return {
            "client": self.client,
            "server": self.server,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "num_queries": self.num_queries,
            "reason": self.reason,
        }


def measure_floor(
    spec: TargetSpec,
    *,
    server: str,
    seconds: float = 2.0,
    settings: RunSettings | None = None,
) -> Floor:
    """Measure a client against something that does nothing, one caller, in its own process.

    Args:
        spec: The client, pointed at a server that does nothing.
        server: What that is, for the report.
        seconds: How long.
        settings: How the generator works.

    Raises:
        MeasurementError: The run could not be made.
    """
    record = run(spec, SingleStream(seconds=seconds, min_queries=100), settings)
    good = record.service_ms[np.isfinite(record.service_ms)] * 1e3
    if good.size < len(record):
        reason = f"{len(record) - good.size} of {len(record)} calls failed"
        return Floor(client=record.client, server=server, reason=reason)
    return Floor(
        client=record.client,
        server=server,
        p50_us=float(np.quantile(good, 0.5)),
        p99_us=float(np.quantile(good, 0.99)),
        num_queries=len(record),
    )


def null_floor(client: str, *, payload_bytes: int = 1024, seconds: float = 2.0) -> Floor:
    """Measure one of the engine's own clients against a null server that this call starts.

    Args:
        client: ``in-process``, ``raw-http`` or ``raw-grpc``.
        payload_bytes: Size of each request.
        seconds: How long.

    Raises:
        InputError: There is no such client.
        MeasurementError: The run could not be made.
    """
    if client == "in-process":
        spec = TargetSpec(factory="edgeml.bench.floors:nothing")
        return measure_floor(spec, server="a function that does nothing", seconds=seconds)
    if client not in ("raw-http", "raw-grpc"):
        raise InputError(f"no client '{client}'; in-process, raw-http or raw-grpc was expected")
    kind = client.removeprefix("raw-")
    with null_server(kind) as port, tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(bytes(payload_bytes))
        if kind == "http":
            options: dict[str, Any] = {"url": f"http://127.0.0.1:{port}/", "files": [str(body)]}
        else:
            options = {"address": f"127.0.0.1:{port}", "messages_hex": [bytes(payload_bytes).hex()]}
        spec = TargetSpec(factory=f"edgeml.bench.raw_{kind}:{kind}_target", options=options)
        return measure_floor(spec, server=f"null {kind} server in Python", seconds=seconds)


def nothing() -> CallTarget:
    """Return a target in this process that does nothing."""
    return CallTarget(lambda _sample: None)
