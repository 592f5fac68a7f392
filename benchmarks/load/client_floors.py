"""The floors of the clients: Python's null servers, and Triton's own query that does nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import edgeml
from edgeml.bench.floors import measure_floor, null_floor
from edgeml.bench.targets import TargetSpec

_CLIENTS = ("in-process", "raw-http", "raw-grpc")


def measure_floors(*, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure each client's floor, in turns.

    Args:
        seconds: Of each measurement.
        rounds: Measurements of each client.
    """
    rows = []
    with (
        tempfile.TemporaryDirectory() as empty,
        edgeml.serve_triton(Path(empty), supervised=False) as server,
    ):
        triton = TargetSpec(
            factory="edgeml.bench.raw_grpc:grpc_target",
            options={"address": server.grpc.removeprefix("grpc://")},
        )
        for _ in range(rounds):
            floors = [null_floor(client, seconds=seconds) for client in _CLIENTS]
            floors.append(measure_floor(triton, server="Triton, ServerLive", seconds=seconds))
            rows += [floor.to_json() for floor in floors]
    return rows
