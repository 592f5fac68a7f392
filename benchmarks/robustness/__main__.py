"""``python -m benchmarks.robustness``: what a real server stands.

``mutations`` sends mutated requests, ``replay`` one of them again, ``soak`` calls for a while,
``cycles`` starts and stops, ``recovery`` kills. Each prints JSON, and writes it with ``--out``.
Exit code 0: as it shall be; 1: not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.robustness.campaign import Campaign, replay
from benchmarks.robustness.leaks import cycles, soak
from benchmarks.robustness.recovery import recovery
from benchmarks.robustness.subjects import make_subjects
from edgeml.errors import EdgemlError

_RECOVERY_S = 5.0


def main(arguments: list[str]) -> int:
    """Run one verb."""
    parsed = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="edgeml-robustness-") as folder:
        place = Path(folder)
        subjects = make_subjects(place / "bundles", repository=place / "models")
        good, result = parsed.verb(parsed, place / "models", subjects)
    text = json.dumps(result, indent=1, default=str)
    if parsed.out is not None:
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0 if good else 1


def _mutations(parsed: argparse.Namespace, repository: Path, subjects: Any) -> tuple[bool, Any]:
    numbers = range(parsed.first, parsed.first + parsed.count)
    campaign = Campaign(repository, subjects, seed=parsed.seed, guard=parsed.guard)
    report = campaign.run(numbers, say=_say)
    result = {"seed": parsed.seed, "count": parsed.count, "guard": parsed.guard}
    result |= report.to_json()
    if not parsed.guard:
        result["guarded"] = [
            _guarded(repository, subjects, seed=parsed.seed, number=crash.number)
            for crash in report.crashes
            if crash.protocol != "grpc"
        ]
    harmed = report.lost_stubs or report.faults or (parsed.guard and report.crashes)
    return not harmed, result


def _guarded(repository: Path, subjects: Any, *, seed: int, number: int) -> dict[str, Any]:
    try:
        _, alone = replay(repository, subjects, seed=seed, number=number, guard=False)
        outcome, lives = replay(repository, subjects, seed=seed, number=number, guard=True)
    except EdgemlError as exc:  # what was counted before is worth more than this
        return {"number": number, "not sent again": str(exc)}
    return {
        "number": number,
        "ends the server alone": not alone,
        "ends it through the guard": not lives,
        "the guard's answer": f"{outcome.status} {outcome.text}".strip(),
    }


def _replay(parsed: argparse.Namespace, repository: Path, subjects: Any) -> tuple[bool, Any]:
    outcome, lives = replay(
        repository, subjects, seed=parsed.seed, number=parsed.first, guard=parsed.guard
    )
    return lives, {"status": outcome.status, "text": outcome.text, "server lives": lives}


def _soak(parsed: argparse.Namespace, repository: Path, subjects: Any) -> tuple[bool, Any]:
    found = soak(repository, subjects, seconds=parsed.seconds, say=_say)
    harmed = found["faults"] or found["left"] or found["restarts"] or found["cures"]
    return not harmed, found


def _cycles(parsed: argparse.Namespace, repository: Path, subjects: Any) -> tuple[bool, Any]:
    found = cycles(repository, subjects, count=parsed.count, say=_say)
    return not found["left"], found


def _recovery(parsed: argparse.Namespace, repository: Path, subjects: Any) -> tuple[bool, Any]:
    found = recovery(repository, subjects, repeats=parsed.count, say=_say)
    return max(found["slowest_s"].values()) < _RECOVERY_S, found


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=__doc__)
    verbs = parser.add_subparsers(required=True)

    def add(name: str, verb: Any, *, count: int | None = None) -> argparse.ArgumentParser:
        made = verbs.add_parser(name)
        made.add_argument("--out", type=Path, help="file for the results")
        if count is not None:
            made.add_argument("--count", type=int, default=count)
        made.set_defaults(verb=verb)
        return made

    for made in (add("mutations", _mutations, count=10_000), add("replay", _replay)):
        made.add_argument("--seed", type=int, default=0)
        made.add_argument("--first", type=int, default=0, help="number of the first request")
        made.add_argument("--guard", action="store_true", help="HTTP only, through the guard")
    add("soak", _soak).add_argument("--seconds", type=float, default=1200.0)
    add("cycles", _cycles, count=50)
    add("recovery", _recovery, count=5)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
