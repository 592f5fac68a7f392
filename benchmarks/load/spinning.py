"""What the last part of a wait costs, spun or slept, on a quiet machine and beside neighbours."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bench.arrivals import poisson
from edgeml.bench.null_server import null_server
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import TargetSpec

_BURN = "import sys\nsys.stdout.write('x'); sys.stdout.flush()\nwhile True: pass"


def measure_spinning(
    *, spins_us: tuple[float, ...], neighbours: tuple[int, ...], seconds: float
) -> list[dict[str, Any]]:
    """Measure the generator's lag, its use of the processor and what the server answers.

    Args:
        spins_us: Parts of a wait that are spun.
        neighbours: Numbers of processes that burn a processor meanwhile.
        seconds: Of each run, at 200 queries a second.
    """
    rows = []
    schedule = poisson(200.0, num_queries=int(200 * seconds), seed=3)
    with tempfile.TemporaryDirectory() as folder, null_server(service_ms=2.0) as port:
        body = Path(folder) / "body"
        body.write_bytes(bytes(1024))
        options = {"url": f"http://127.0.0.1:{port}/", "files": [str(body)]}
        spec = TargetSpec(factory="edgeml.bench.raw_http:http_target", options=options)
        for busy in neighbours:
            with _burners(busy):
                for spin_us in spins_us:
                    record = run(spec, Server(schedule=schedule), RunSettings(spin_us=spin_us))
                    rows.append(
                        {
                            "neighbours": busy,
                            "spin_us": spin_us,
                            "send_lag_us": _quantiles(record.send_lag_ms * 1e3),
                            "response_ms": _quantiles(record.response_ms),
                            "generator_cpu_share": record.conditions["generator_cpu_share"],
                        }
                    )
    return rows


@contextlib.contextmanager
def _burners(number: int) -> Iterator[None]:
    burning = [
        subprocess.Popen([sys.executable, "-c", _BURN], stdout=subprocess.PIPE)
        for _ in range(number)
    ]
    try:
        for process in burning:
            assert process.stdout is not None
            process.stdout.read(1)
        yield
    finally:
        for process in burning:
            process.kill()
            process.communicate()


def _quantiles(values: Any) -> dict[str, float]:
    return {f"p{100 * share:g}": float(np.quantile(values, share)) for share in (0.5, 0.9, 0.99)}
