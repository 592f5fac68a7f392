"""``edgeml cascade``."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="bundle that answers everything, the cheap one")
    parser.add_argument("second", help="bundle that answers again what the first is unsure of")
    parser.add_argument(
        "--data",
        required=True,
        help="checkpoint, whose validation part chooses and whose test part is reported on; or "
        "labelled pictures or texts that neither has learnt from: half each",
    )
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--max-drop", type=float, help="largest drop against the second, a fraction (0.002)"
    )
    goal.add_argument("--max-share", type=float, help="instead: share that may be escalated")
    parser.add_argument(
        "--costs", nargs=2, type=float, metavar="COST", help="of one item on each (measured ms)"
    )
    parser.add_argument("--limit", type=int, help="samples of each part (all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (0)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each model (1)")
    parser.add_argument("--report", metavar="DIR", help="write report.json and report.html there")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml
    from edgeml.workflows.cascade_data import labelled_parts

    max_drop = arguments.max_drop
    if max_drop is None and arguments.max_share is None:
        max_drop = 0.002
    opened = edgeml.Bundle.read(arguments.first)
    selection, reporting = labelled_parts(
        arguments.data, opened, limit=arguments.limit, seed=arguments.seed
    )
    with (
        edgeml.load(opened, num_threads=arguments.threads) as first,
        edgeml.load(arguments.second, num_threads=arguments.threads) as second,
    ):
        curve = edgeml.cascade_curve(
            first,
            second,
            selection,
            reporting=reporting,
            max_accuracy_drop=max_drop,
            max_share=arguments.max_share,
            costs=tuple(arguments.costs) if arguments.costs else None,
        )
    if arguments.report:
        edgeml.write_report(Path(arguments.report), curve.report())

    def show() -> None:
        for table in curve.tables():
            show_table(table.title, list(table.columns), [list(row) for row in table.rows])
        if curve.chosen is not None and curve.compute_ratio is not None:
            ratio, low, high = curve.compute_ratio
            show_line(f"threshold {curve.threshold:.4f}: {curve.reason}")
            show_line(f"compute: 1/{ratio:.2f} of the second model's [{low:.2f}, {high:.2f}]")
        if arguments.report:
            show_line(f"report: {Path(arguments.report) / 'report.html'}")

    missed = None if curve.chosen is not None else f"no threshold keeps the goal: {curve.reason}"
    return Outcome(result=curve.to_json(), show=show, error=missed, code=0 if missed is None else 1)


VERB = Verb(
    name="cascade",
    help="from which confidence on a second model need not be asked",
    configure=_configure,
    run=_run,
)
