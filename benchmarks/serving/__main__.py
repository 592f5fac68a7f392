"""``python -m benchmarks.serving``: what a request costs on a real Triton, beside in-process.

The machine must be quiet. Everything takes turns in one run: in-process, over gRPC, HTTP and shared
memory, and a no-op model in the same server. One thread, one instance. The callers of the
throughput rows are a process of their own on the same cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import edgeml
from benchmarks.serving import measuring
from benchmarks.serving.making import make_subjects
from benchmarks.serving.report import conditions, table

PARTS = ("latency", "throughput", "costs", "start")


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("artifacts/serving"))
    parser.add_argument("--sizes", default="128,224", help="sides of the picture, in pixels")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput rows")
    parser.add_argument("--start-of", type=Path, help="a repository to start (the one it made)")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    parts = given.only.split(",")
    repository, subjects = make_subjects(given.work, sizes)
    found: dict[str, Any] = {"conditions": conditions()}
    if "start" in parts:
        found["start"] = [measuring.measure_start(given.start_of or repository, times=3)]
    with edgeml.serve_triton(repository, supervised=False) as server:
        measure = {
            "latency": lambda subject: measuring.measure_latency(
                server, subject, seconds=given.seconds
            ),
            "throughput": lambda subject: measuring.measure_throughput(
                server,
                subject,
                given.work,
                seconds=given.seconds / given.rounds / 3,
                rounds=given.rounds,
            ),
            "costs": lambda subject: measuring.measure_costs(
                server, subject, given.work, seconds=given.seconds / 4
            ),
        }
        for part in (one for one in parts if one in measure):
            found[part] = [row for subject in subjects for row in measure[part](subject)]
            _keep(found, given.out)
    sys.stdout.write(table(found) + "\n")


def _keep(found: dict[str, Any], out: Path | None) -> None:
    """Write what there is so far: a run that is cut off has lost nothing else."""
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
