"""Run a scenario from a process of its own: what the caller's process does is not measured."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from edgeml.bench.children import child_environment
from edgeml.bench.job import Job, read_failure, write_job
from edgeml.bench.record import Record, load_record
from edgeml.bench.scenarios import MultiStream, Scenario, Server, SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import TargetSpec
from edgeml.errors import MeasurementError

_EXTRA_S = 120.0


def run(
    spec: TargetSpec,
    scenario: Scenario,
    settings: RunSettings | None = None,
    *,
    timeout_s: float | None = None,
) -> Record:
    """Start a generator, let it run a scenario, and return its record.

    Args:
        spec: How the generator makes the target.
        scenario: How it is asked.
        settings: How the generator works.
        timeout_s: When it is given up; None for the scenario's own length and two minutes.

    Raises:
        MeasurementError: The target could not be made or warmed up, or the generator died or did
            not end in time.
    """
    settings = settings or RunSettings()
    allowed_s = timeout_s or _length_s(scenario) + settings.drain_s + _EXTRA_S
    with tempfile.TemporaryDirectory(prefix="edgeml-load-") as name:
        folder = Path(name)
        write_job(folder, Job(spec=spec, scenario=scenario, settings=settings))
        with (folder / "output").open("w+b") as output:
            code = _wait(folder, spec, output.fileno(), allowed_s)
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == 0:
            return load_record(folder)
        reason = read_failure(folder) or (said.splitlines() or ["it said nothing"])[-1]
        raise MeasurementError(
            f"no run against '{spec.factory}': the generator ended with {code} ({reason}); "
            "a target that answers its warm-up was expected; look at it first"
        )


def _wait(folder: Path, spec: TargetSpec, output: int, allowed_s: float) -> int:
    with subprocess.Popen(
        [sys.executable, "-m", "edgeml.bench.worker", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=child_environment(spec.environment),
    ) as process:
        try:
            return process.wait(timeout=allowed_s)
        except subprocess.TimeoutExpired:
            raise MeasurementError(
                f"the generator did not end within {allowed_s:g} s; a run of the scenario's "
                "length was expected; the target hangs, or raise timeout_s"
            ) from None
        finally:
            if process.poll() is None:
                process.kill()


def _length_s(scenario: Scenario) -> float:
    if isinstance(scenario, SingleStream | MultiStream):
        return scenario.seconds
    return scenario.schedule.seconds if isinstance(scenario, Server) else 600.0
