"""A closed loop of callers against a server, in a process of its own.

``python -m edgeml.serving.tuning.load`` reads a job from stdin and writes what it measured to
stdout. Each caller sends its next request when the last one was answered, so the number of callers
is the number of requests under way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.errors import EdgemlError, ServerError

_EXTRA_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send.

    Attributes:
        url: ``grpc://host:port`` or ``http://host:port``.
        model: The model's name.
        inputs: Input name to ``.npy`` file of one request, batch first.
        callers: Requests under way at once.
        seconds: How long to measure; a quarter of it is added before, and not counted.
    """

    url: str
    model: str
    inputs: dict[str, str]
    callers: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of it.

    Attributes:
        answered: Requests that were answered in the measured time.
        errors: Requests that were not.
        per_s: Answers a second.
        p50_ms: Half of the answers took no longer.
        p99_ms: Ninety-nine of a hundred took no longer.
        reason: The first error, in one line.
    """

    answered: int
    errors: int
    per_s: float
    p50_ms: float
    p99_ms: float
    reason: str = ""


def run_load(load: Load) -> Measured:
    """Send a load from a process of its own, and return what it measured.

    Raises:
        ServerError: Nothing was answered.
    """
    done = subprocess.run(
        [sys.executable, "-m", "edgeml.serving.tuning.load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        timeout=1.25 * load.seconds + _EXTRA_S,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ServerError(f"the load could not be sent ({lines[-1]})", url=load.url)
    found = Measured(**json.loads(done.stdout))
    if not found.answered:
        raise ServerError(f"nothing was answered ({found.reason})", url=load.url)
    return found


def measure(call: Callable[[], object], *, callers: int, seconds: float) -> Measured:
    """Let callers call in a loop for a while.

    Args:
        call: One request; it raises EdgemlError where it fails.
        callers: How many at once.
        seconds: How long to measure.
    """
    begin = time.perf_counter() + 0.25 * seconds
    end = begin + seconds
    times: list[list[float]] = [[] for _ in range(callers)]
    failed: list[str] = []

    def work(mine: list[float]) -> None:
        while (start := time.perf_counter()) < end:
            try:
                call()
            except EdgemlError as exc:
                if start >= begin:
                    failed.append(str(exc))
                time.sleep(0.01)
                continue
            if start >= begin:
                mine.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = np.array([value for mine in times for value in mine]) * 1e3
    some = taken if taken.size else np.array([0.0])
    return Measured(
        answered=int(taken.size),
        errors=len(failed),
        per_s=taken.size / seconds,
        p50_ms=float(np.quantile(some, 0.5)),
        p99_ms=float(np.quantile(some, 0.99)),
        reason=failed[0] if failed else "",
    )


def main() -> None:
    """Do the job on stdin."""
    from edgeml.serving.client.engine import TritonEngine

    load = Load(**json.load(sys.stdin))
    feed: dict[str, Any] = {
        name: np.load(Path(file), allow_pickle=False) for name, file in load.inputs.items()
    }
    engine = TritonEngine(load.url, model=load.model)
    try:
        found = measure(lambda: engine.run(feed), callers=load.callers, seconds=load.seconds)
    finally:
        engine.close()
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
