"""``python -m benchmarks.zoo``: build, compare, search, time, write the table; resumable.

Exit code 0: every member asked for has what was asked for; 1: some have not; 2: a wrong request.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.zoo import report
from benchmarks.zoo.members import MEMBERS
from benchmarks.zoo.running import STEPS, Settings, collect, run


def main(arguments: Sequence[str]) -> int:
    """Run with command-line arguments and return the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        settings = Settings(
            members=tuple(dict.fromkeys(parsed.members.split(","))),
            steps=(parsed.only,) if parsed.only else STEPS,
            folder=parsed.folder,
            budget=parsed.budget,
            retime=parsed.retime,
        )
    except ValueError as exc:
        _to_stderr(f"error: {exc}")
        return 2
    failed = run(settings, say=_to_stderr)
    if "table" in settings.steps:
        command = " ".join(["python -m benchmarks.zoo", *arguments])
        results = {"command": command, "date": parsed.date, **collect(settings, failed)}
        if results["rows"]:
            report.write(results, folder=parsed.out, name=parsed.name)
            _to_stderr(f"written: {parsed.out / parsed.name}.md")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", allow_abbrev=False)
    add = parser.add_argument
    add("--members", default=",".join(MEMBERS), help="names with commas; default all: %(default)s")
    add("--only", choices=STEPS, help="one step alone; members are built first in any case")
    add("--folder", type=Path, default=Path("artifacts/zoo"), help="models, data, what was made")
    add("--budget", default="5m", help="of each search (%(default)s)")
    add("--retime", action="store_true", help="take latencies again, though nothing has changed")
    add("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    add("--name", default="zoo", help="its name, without extension")
    add("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat())
    return parser


def _to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
