"""``edgeml robustness``."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle, of an image classifier")
    parser.add_argument(
        "--data",
        required=True,
        help="checkpoint, whose test part is taken; or labelled pictures of the same classes",
    )
    parser.add_argument(
        "--unknown", help="folder of pictures that are of no class (default: made-up patterns)"
    )
    parser.add_argument("--limit", type=int, default=500, help="pictures of each kind (500)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (0)")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")
    parser.add_argument("--report", metavar="DIR", help="write report.json and report.html there")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    found = edgeml.robustness(
        arguments.bundle,
        data=arguments.data,
        unknown=arguments.unknown,
        limit=arguments.limit,
        seed=arguments.seed,
        num_threads=arguments.threads,
        progress=progress,
    )
    if arguments.report:
        edgeml.write_report(Path(arguments.report), found.report())

    def show() -> None:
        for table in found.tables():
            rows = [
                [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row]
                for row in table.rows
            ]
            show_table(table.title, list(table.columns), rows)
        if arguments.report:
            show_line(f"report: {Path(arguments.report) / 'report.html'}")

    return Outcome(result=found.to_json(), show=show)


VERB = Verb(
    name="robustness",
    help="accuracy under blur, noise, light; confidence on unknown pictures",
    configure=_configure,
    run=_run,
)
