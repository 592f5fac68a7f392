"""``edgeml tune``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.durations import duration
from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress
from edgeml.errors import InputError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument(
        "--threads",
        default=None,
        metavar="N,..",
        help="numbers of threads to try; default: 1, 2, 4, ... up to all we may use",
    )
    parser.add_argument(
        "--budget",
        type=duration,
        default=60.0,
        help="about how long it may take, such as 90s or 5m (60s)",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    done = edgeml.tune(
        arguments.bundle,
        threads=_counts(arguments.threads),
        budget_s=arguments.budget,
        progress=progress,
    )
    result = done.to_json()
    text = f"{done.chosen.describe()}: kept in {done.profile}; edgeml.load follows it here"
    if done.chosen == done.baseline:
        text = f"nothing is proven faster than {text}"
    return Outcome(result=result, show=lambda: _show(result, text))


def _counts(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(count) for count in text.split(",")]
    except ValueError as exc:
        raise InputError(
            f"'{text}'; numbers such as 1,2,4 were expected", item="--threads"
        ) from exc


def _show(result: dict[str, Any], text: str) -> None:
    rows = [
        (
            row["variant"],
            row["engine"],
            str(row["threads"]),
            "yes" if row["spinning"] else "no",
            "yes" if row["arena"] else "no",
            "-" if row["p50_ms"] is None else f"{row['p50_ms']:.3f}",
            _speed(row),
            {True: "holds", False: "FAILS", None: "-"}[row["golden"]],
            "chosen" if row["chosen"] else row["reason"],
        )
        for row in result["rows"]
    ]
    columns = (
        *("variant", "engine", "threads", "spinning", "arena"),
        *("p50 ms", "speed", "golden", "verdict"),
    )
    show_table(result["bundle"], columns, rows)
    show_line(text)


def _speed(row: dict[str, Any]) -> str:
    if row["speedup"] is None:
        return "-"
    return f"{row['speedup']:.2f}x [{row['speedup_low']:.2f}, {row['speedup_high']:.2f}]"


VERB = Verb(
    name="tune",
    help="choose the fastest variant, engine and threads on this machine",
    configure=_configure,
    run=_run,
)
