"""The generator's process: ``python -m edgeml.bench.worker FOLDER`` does the job in that folder."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from edgeml.bench.driving import drive
from edgeml.bench.job import read_job, write_failure
from edgeml.bench.system import end_with_parent, sharpen_timers


def main(folder: Path) -> int:
    """Run the job and leave its record, or why there is none."""
    end_with_parent()
    job = read_job(folder)
    if job.settings.cpus:
        os.sched_setaffinity(0, job.settings.cpus)
    sharpen_timers()
    try:
        target = job.spec.make()
        record = drive(target, job.scenario, job.settings)
    except Exception as exc:
        write_failure(folder, exc)
        return 1
    record.save(folder)
    if not record.conditions["stuck_callers"]:  # else closing would wait for them
        with contextlib.suppress(Exception):
            target.close()
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # callers that are stuck in a server's answer must not hold the exit up
