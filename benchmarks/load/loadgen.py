"""MLPerf's own LoadGen, asking the model of a server with a fixed service time.

``python -m benchmarks.load.loadgen JOB`` is the child: LoadGen may run once in a process. What it
did is read from its trace: when each query was due, and how long after that it was answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import mlperf_loadgen
import numpy as np
import numpy.typing as npt

from benchmarks.load.fixed_service import FixedService
from edgeml.bench.system import sharpen_timers

_SAMPLES = 64


@dataclass(frozen=True, kw_only=True)
class LoadGenJob:
    """One run of LoadGen's Server scenario.

    Attributes:
        rate_per_s: Mean rate of its Poisson arrivals.
        num_queries: How many.
        seed: Seed of its schedule.
        service_ms: Service time of the model.
        folder: Where it writes its logs.
    """

    rate_per_s: float
    num_queries: int
    seed: int
    service_ms: float
    folder: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadGenRun:
    """What LoadGen did.

    Attributes:
        arrivals_s: float64 ``(queries,)``: when each query was due, from the first one on.
        response_ms: float64 ``(queries,)``: from due to answered.
        summary: LoadGen's own percentiles, in milliseconds.
    """

    arrivals_s: npt.NDArray[np.float64]
    response_ms: npt.NDArray[np.float64]
    summary: dict[str, float]


def run_loadgen(job: LoadGenJob) -> LoadGenRun:
    """Run LoadGen in a process of its own and read its trace."""
    with tempfile.TemporaryDirectory() as folder:
        given = json.dumps({**asdict(job), "folder": folder})
        subprocess.run(
            [sys.executable, "-m", "benchmarks.load.loadgen", given],
            check=True,
            timeout=10 * job.num_queries / job.rate_per_s + 60,
            stdout=subprocess.DEVNULL,
        )
        trace = (Path(folder) / "mlperf_log_trace.json").read_text(encoding="utf-8")
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    rows = sorted(
        (event["ts"], event["args"]["complete_ns"])
        for event in map(json.loads, _events(trace))
        if event["name"] == "Sample" and event["ph"] == "b"
    )
    due_us, latency_ns = np.array(rows, dtype=np.float64).T
    return LoadGenRun(
        arrivals_s=(due_us - due_us[0]) / 1e6,
        response_ms=latency_ns / 1e6,
        summary=_percentiles(summary),
    )


def _events(trace: str) -> list[str]:
    lines = (line.strip().rstrip(",") for line in trace.splitlines())
    return [line for line in lines if line.startswith('{"name":"Sample"')]


def _percentiles(summary: str) -> dict[str, float]:
    found = {}
    for line in summary.splitlines():
        if " percentile latency (ns)" in line:
            name, _, value = line.partition(" percentile latency (ns)")
            found[f"p{float(name):g}"] = int(value.split(":")[1]) / 1e6
    return found


def main(job: LoadGenJob) -> None:
    """Let LoadGen ask the model; its logs go into the job's folder."""
    sharpen_timers()
    service = FixedService(service_ms=job.service_ms)

    def issue(samples: list[mlperf_loadgen.QuerySample]) -> None:
        for sample in samples:
            service.submit(lambda query=sample.id: _complete(query))

    test = mlperf_loadgen.TestSettings()
    test.scenario = mlperf_loadgen.TestScenario.Server
    test.mode = mlperf_loadgen.TestMode.PerformanceOnly
    test.server_target_qps = job.rate_per_s
    test.server_target_latency_ns = 1_000_000_000
    test.min_query_count = test.max_query_count = job.num_queries
    test.min_duration_ms = 0
    test.schedule_rng_seed = job.seed
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = job.folder
    output.copy_summary_to_stdout = False
    logs = mlperf_loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = True
    model = mlperf_loadgen.ConstructSUT(issue, lambda: None)
    samples = mlperf_loadgen.ConstructQSL(_SAMPLES, _SAMPLES, lambda _: None, lambda _: None)
    mlperf_loadgen.StartTestWithLogSettings(model, samples, test, logs)


def _complete(query: int) -> None:
    mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(query, 0, 0)])


if __name__ == "__main__":
    main(LoadGenJob(**json.loads(sys.argv[1])))
