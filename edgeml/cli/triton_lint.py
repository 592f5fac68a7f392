"""``edgeml triton lint``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", help="Triton model repository")
    parser.add_argument(
        "--strict", action="store_true", help="a model that is not built here is an error"
    )
    parser.add_argument(
        "--target", default="24.10", help="tag of the container that will serve it (24.10)"
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    from edgeml.serving.lint import lint_repository

    findings = lint_repository(
        Path(arguments.repository), target=arguments.target, strict=arguments.strict
    )
    errors = [finding for finding in findings if finding.level == "error"]
    error = None
    if errors:
        first = errors[0]
        where = first.file if first.line is None else f"{first.file}:{first.line}"
        error = (
            f"{arguments.repository}: {len(errors)} of {len(findings)} findings are errors, first "
            f"{where}: {first.rule}: {first.message}"
        )
    rows = [finding.to_json() for finding in findings]
    return Outcome(
        result={"ok": not errors, "findings": rows},
        show=lambda: _show(arguments.repository, rows),
        code=1 if errors else 0,
        error=error,
    )


def _show(repository: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        show_line(f"{repository}: nothing found")
        return
    columns = ("level", "file", "line", "rule", "message")
    lines = [tuple("" if row[key] is None else str(row[key]) for key in columns) for row in rows]
    show_table(repository, columns, lines)


VERB = Verb(
    name="triton lint",
    help="check a model repository without a server",
    configure=_configure,
    run=_run,
)
