"""``edgeml inspect``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    from edgeml.core.bundle import Bundle
    from edgeml.runtime.host_profile import find_profile

    bundle = Bundle.read(arguments.bundle)
    result = bundle.manifest.to_json()
    found = find_profile(bundle)
    if found is not None:
        chosen = found.setup.to_json() if found.setup is not None else None
        result["host_profile"] = {"chosen": chosen, "problem": found.problem}
    return Outcome(result=result, show=lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    show_line(f"{result['name']} version {result['version']}, {result['task']}")
    for side in ("inputs", "outputs"):
        for spec in result["signature"][side]:
            shape = ", ".join(str(axis) for axis in spec["shape"])
            show_line(f"  {side[:-1]} {spec['name']}: {spec['dtype']} ({shape})")
    show_line(f"  labels: {', '.join(result['labels'])}")
    rows = [
        (
            row["name"],
            f"{row['size_bytes'] / 1e6:.2f}",
            _number(row["accuracy"], ".4f"),
            _number(row["p50_ms"], ".3f"),
            _number(row["speedup"], ".2f"),
            row["tuned_for"] or "any",
            row["verdict"],
            row["reason"],
        )
        for row in result["variants"]
    ]
    columns = ("variant", "MB", "accuracy", "p50 ms", "speed", "tuned for", "verdict", "reason")
    show_table("variants", columns, rows)
    show_line(f"chosen: {result['chosen']} (by device: {result['chosen_by_device']})")
    profile = result.get("host_profile")
    if profile is not None:
        show_line(f"profile of this machine: {profile['problem'] or profile['chosen']}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


VERB = Verb(name="inspect", help="show what is in a bundle", configure=_configure, run=_run)
