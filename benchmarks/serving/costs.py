"""The backend's own cost: Triton's account of each run, less what ONNX Runtime took of it.

Triton counts, for each run of a model, the time from the moment in which its backend gets the
requests to the moment in which their answers are written: input, run and output. Our part of the
backend counts the time within ``session.run`` and says both sums in the server's log when a model
is unloaded. The difference is everything else: copies into and out of shared memory, the two
messages to the stub's process, and our Python.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeml.serving.server.control import load_model, unload_model
from edgeml.serving.server.http import get_json

SAID = re.compile(
    r"(\d+) request\(s\) in (\d+) run\(s\), (\d+) us in ONNX Runtime and (\d+) us beside"
)
_UNLOAD_S = 10.0
_PARTS = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a request cost.

    Attributes:
        requests: Requests answered.
        runs: Runs of the model.
        run_us: ONNX Runtime's time, a run.
        python_us: Our Python beside it, a request.
        backend_us: All of the backend beside it, a request.
    """

    requests: int
    runs: int
    run_us: float
    python_us: float
    backend_us: float


def measure_cost(server: Any, model: str, traffic: Callable[[], None]) -> Cost:
    """Load a model anew, send it traffic, and return what a request cost.

    Args:
        server: A running server of ours.
        model: The model's name.
        traffic: Sends the requests and returns when all are answered.
    """
    unload_model(server.http, model)  # one that is loaded already would go on counting
    _wait_until_gone(server.http, model)
    load_model(server.http, model)
    warm_requests, warm_ns = _account(server.http, model)
    traffic()
    requests, spent_ns = _account(server.http, model)
    before = Path(server.log_path).stat().st_size
    unload_model(server.http, model)
    said, runs, run_us, python_us = _said(Path(server.log_path), before)
    load_model(server.http, model)
    # Triton counts its warm-up as we do, and only the traffic counts here: its share is small.
    answered = requests - warm_requests
    share = answered / said
    return Cost(
        requests=answered,
        runs=runs,
        run_us=run_us / runs,
        python_us=python_us / said,
        backend_us=((spent_ns - warm_ns) / 1e3 - run_us * share) / answered,
    )


def _wait_until_gone(url: str, model: str) -> None:
    """Wait for the end of an unloading: Triton answers before it."""
    end = time.monotonic() + _UNLOAD_S
    while time.monotonic() < end:
        rows = get_json(f"{url}/v2/repository/index", method="POST")
        if all(row.get("state") == "UNAVAILABLE" for row in rows if row["name"] == model):
            return
        time.sleep(0.1)


def _said(log: Path, before: int) -> tuple[int, ...]:
    """Return what an unloaded model says of its answers: Triton ends it after it has answered."""
    end = time.monotonic() + _UNLOAD_S
    while time.monotonic() < end:
        with log.open("rb") as file:
            file.seek(before)
            found = SAID.search(file.read().decode("utf-8", "replace"))
        if found is not None:
            return tuple(int(value) for value in found.groups())
        time.sleep(0.1)
    raise RuntimeError(f"{log} does not say what a model did before it was unloaded")


def _account(url: str, model: str) -> tuple[int, int]:
    """Return Triton's count of answered requests, and the time of all runs in nanoseconds."""
    (row,) = get_json(f"{url}/v2/models/{model}/stats")["model_stats"]
    runs = row["batch_stats"]
    spent = sum(int(one[part]["ns"]) for one in runs for part in _PARTS)
    return int(row["inference_stats"]["success"]["count"]), spent
