"""What the measuring process writes down for the generator's process, and what it gets back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bench.arrivals import Schedule
from edgeml.bench.scenarios import (
    MultiStream,
    Offline,
    Scenario,
    Server,
    SingleStream,
    scenario_name,
)
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import TargetSpec

_JOB, _ARRIVALS, _FAILURE = "job.json", "arrivals.npy", "failure.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        spec: What is asked.
        scenario: How it is asked.
        settings: How the generator works.
    """

    spec: TargetSpec
    scenario: Scenario
    settings: RunSettings


def write_job(folder: Path, job: Job) -> None:
    """Write a job into an empty folder."""
    scenario = dict(vars(job.scenario))
    if isinstance(job.scenario, Server):
        schedule = vars(scenario.pop("schedule")).copy()
        np.save(folder / _ARRIVALS, schedule.pop("due_ns"), allow_pickle=False)
        scenario["schedule"] = schedule
    value = {
        "factory": job.spec.factory,
        "options": dict(job.spec.options),
        "scenario": {"name": scenario_name(job.scenario), **scenario},
        "settings": job.settings.to_json(),
    }
    (folder / _JOB).write_text(json.dumps(value), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Read what :func:`write_job` wrote."""
    value = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    settings = value["settings"]
    settings["cpus"] = tuple(settings["cpus"])
    return Job(
        spec=TargetSpec(factory=value["factory"], options=value["options"]),
        scenario=_scenario(value["scenario"], folder),
        settings=RunSettings(**settings),
    )


def write_failure(folder: Path, error: Exception) -> None:
    """Leave word of why there is no record."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    (folder / _FAILURE).write_text(json.dumps(text), encoding="utf-8")


def read_failure(folder: Path) -> str | None:
    """Return why there is no record, if the generator said so."""
    file = folder / _FAILURE
    if not file.exists():
        return None
    text: str = json.loads(file.read_text(encoding="utf-8"))
    return text


def _scenario(value: dict[str, Any], folder: Path) -> Scenario:
    name = value.pop("name")
    if name == "server":
        due_ns = np.load(folder / _ARRIVALS, allow_pickle=False)
        value["schedule"] = Schedule(due_ns=due_ns, **value["schedule"])
        return Server(**value)
    kinds: dict[str, Any] = {
        "single-stream": SingleStream,
        "multi-stream": MultiStream,
        "offline": Offline,
    }
    scenario: Scenario = kinds[name](**value)
    return scenario
