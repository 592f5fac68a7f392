"""``edgeml profile``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from edgeml.cli.durations import duration
from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress, ProgressEvent

_TARGETS, _SCENARIOS = "edge,http", "single-stream,server,offline"


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument(
        "--targets",
        default=_TARGETS,
        help="edge, http, triton-grpc, triton-http, triton-http-json, triton-shm, with commas; "
        f"NAME=URL uses a server of yours ({_TARGETS})",
    )
    parser.add_argument(
        "--scenarios",
        default=_SCENARIOS,
        help=f"single-stream, multi-stream, server, offline ({_SCENARIOS})",
    )
    parser.add_argument("--preset", default="quick", help="quick (3 minutes) or full (quick)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each target (1)")
    parser.add_argument("--p99", type=duration, default=None, help="bound, such as 20ms")
    parser.add_argument("--rate", type=float, default=None, help="requests a second")
    parser.add_argument("--min-accuracy", type=float, default=None, help="share, such as 0.9")
    parser.add_argument("--max-memory-mb", type=float, default=None, help="of what answers")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and orders (0)")
    parser.add_argument("--out", default=None, help="folder of the report; default: BUNDLE.profile")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgeml.workflows.profiling.profile import profile
    from edgeml.workflows.profiling.settings import ServiceLevel, settings_of

    level = ServiceLevel(
        p99_ms=None if arguments.p99 is None else 1e3 * arguments.p99,
        rate_per_s=arguments.rate,
        min_accuracy=arguments.min_accuracy,
        max_memory_mb=arguments.max_memory_mb,
    )
    done = profile(
        arguments.bundle,
        targets=_words(arguments.targets),
        scenarios=_words(arguments.scenarios),
        level=level,
        settings=settings_of(arguments.preset, num_threads=arguments.threads, seed=arguments.seed),
        out=arguments.out,
        progress=_told if arguments.json else progress,
    )
    result = done.to_json()
    return Outcome(result=result, show=lambda: _show(result))


def _told(event: ProgressEvent) -> None:
    """Say each step on stderr: minutes without a word look like a hang, also with ``--json``."""
    sys.stderr.write(f"{event.stage}: {event.note}\n")
    sys.stderr.flush()


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _show(result: dict[str, Any]) -> None:
    columns = (
        *("target", "scenario", "placement", "threads", "batch", "p50 ms", "p90 ms", "p99 ms"),
        *("a second", "errors", "accuracy", "valid"),
    )
    show_table("deployments", columns, [_cells(row) for row in result["rows"]])
    found = result["recommendation"]
    show_line(f"recommended: {found['target']}: {found['reason']}")
    for line in _lines("what would change it", found["changes"]):
        show_line(line)
    for line in _lines("not known here", found["needs"]):
        show_line(line)
    show_line(f"report: {result['out']}/report.html")


def _lines(title: str, values: Sequence[str]) -> list[str]:
    return [f"{title}: {value}" for value in values]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    valid = "yes" if row["valid"] else "NO"
    return (
        row["target"],
        row["scenario"],
        row["placement"],
        str(row["threads"] or "-"),
        str(row["batch"]),
        *(_figure(row[key], ".3f") for key in ("p50_ms", "p90_ms", "p99_ms")),
        _figure(row["throughput_per_s"], ".1f"),
        str(row["errors"]),
        _figure(row["accuracy"], ".4f"),
        f"{valid}: {row['reason']}" if row["reason"] else valid,
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


VERB = Verb(
    name="profile",
    help="measure deployments side by side and recommend one",
    configure=_configure,
    run=_run,
)
