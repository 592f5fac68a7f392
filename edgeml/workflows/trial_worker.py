"""The child process of a search: ``python -m edgeml.workflows.trial_worker JOB.json``.

It does one job and writes its result into the job's folder. If it crashes, hangs or is killed for
memory, only this job is lost.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgeml.core.files import write_json
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.exporting.trials import Trial
from edgeml.workflows.sensitivity import measure_sensitivity
from edgeml.workflows.trial_steps import Work, run_trial

_TIMING_ATTEMPTS = 3


def main(job: Path) -> None:
    """Do the job that a file describes."""
    value = json.loads(job.read_text(encoding="utf-8"))
    work, result = Work(Path(value["work"])), Path(value["result"])
    if value["do"] == "trial":
        run_trial(work, Trial.from_json(value["trial"]), result, thorough=value["thorough"])
    elif value["do"] == "time":
        write_json(result / "timing.json", _time(work, value))
    else:
        found = measure_sensitivity(work, Trial.from_json(value["trial"]), value["budget_s"])
        write_json(result / "sensitivity.json", found)


def _time(work: Work, value: Mapping[str, Any]) -> dict[str, Any]:
    """Time finalists in turns, again while a neighbour's load makes the ratios unstable."""
    one = work.selection.feed([work.selection.typical()])
    threads = work.surroundings.timing_threads
    plan = TimingPlan(**value["plan"])
    with contextlib.ExitStack() as stack:
        calls = {}
        for row in value["finalists"]:
            trial = Trial.from_json(row["trial"])
            opened = work.open(trial, Path(row["model"]), num_threads=threads)
            engine = stack.enter_context(contextlib.closing(opened))
            calls[row["id"]] = lambda engine=engine: engine.run(one)
        baseline = value["finalists"][0]["id"]
        for attempt in range(1, _TIMING_ATTEMPTS + 1):
            again = replace(plan, seed=plan.seed + attempt - 1)
            timings: dict[str, Latency] = compare_latency(calls, baseline=baseline, plan=again)
            if all(row.stable for row in timings.values()):
                break
    return {
        "rows": {name: asdict(row) for name, row in timings.items()},
        "conditions": {
            "attempts": attempt,
            "threads": threads,
            "batch": 1,
            "input": {name: list(array.shape) for name, array in one.items()},
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
