"""``python -m export NAME --preset NAME [--json]``: run a recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgeml.cli import LineParser, guarded
from edgeml.cli.output import progress_printer, show_line, show_table
from edgeml.workflows.reporting import COLUMNS, cell
from export import clothing, defects, moderation, sentiment, video

RECIPES = {
    "clothing": clothing,
    "sentiment": sentiment,
    "moderation": moderation,
    "video": video,
    "defects": defects,
}
_RESUMABLE = ("clothing", "defects")


def main(argv: list[str] | None = None) -> int:
    """Run one recipe and print its table, or its report as JSON."""
    return guarded(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    parser = LineParser(prog="python -m export", description=__doc__)
    parser.add_argument("name", choices=tuple(RECIPES))
    parser.add_argument(
        "--preset", default="quick", help="quick, full, or another one of the recipe's"
    )
    parser.add_argument("--artifacts", default="artifacts", type=Path, help="folder of results")
    parser.add_argument("--repository", default="triton_repo", type=Path)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take trainings that are finished, go on with a killed one",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    presets = RECIPES[arguments.name].PRESETS
    if arguments.preset not in presets:
        parser.error(f"there is no preset '{arguments.preset}'; choose from {', '.join(presets)}")
    if arguments.resume and arguments.name not in _RESUMABLE:
        parser.error(f"'{arguments.name}' cannot be resumed; run it without --resume")
    resumed = {"resume": True} if arguments.resume else {}
    with progress_printer(silent=arguments.json) as progress:
        report = RECIPES[arguments.name].run(
            preset=arguments.preset,
            place=arguments.artifacts / arguments.name,
            repository=arguments.repository,
            **resumed,
            progress=progress,
        )
    if arguments.json:
        sys.stdout.write(json.dumps(report.to_json(), allow_nan=False) + "\n")
        return 0
    shown = COLUMNS[:-1]
    rows = [[cell(row, column) for column in shown] for row in report.rows]
    show_table(arguments.name, [column.heading for column in shown], rows)
    for key, value in report.metrics.items():
        if isinstance(value, dict) and "systems" in value:  # a recommender's: the page has the rest
            for system, figures in value["systems"].items():
                show_line(f"{key}, {system}: NDCG@10 {figures['ndcg_at_10']:.4f}")
        else:
            show_line(f"{key}: {value}")
    show_line(f"report: {arguments.artifacts / arguments.name / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
