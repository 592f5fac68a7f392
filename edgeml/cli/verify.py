"""``edgeml verify``."""

from __future__ import annotations

import argparse

from edgeml.cli.output import Outcome, Verb, show_table
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    import edgeml

    found = edgeml.verify(arguments.bundle)
    rows = [("ok" if check.ok else "FAILED", check.name, check.detail) for check in found.checks]
    failed = [check for check in found.checks if not check.ok]
    error = None
    if failed:
        error = (
            f"{arguments.bundle}: {len(failed)} of {len(rows)} checks failed, first "
            f"{failed[0].name}: {failed[0].detail}; copy or export the bundle again"
        )
    return Outcome(
        result=found.to_json(),
        show=lambda: show_table(str(arguments.bundle), ("", "check", "detail"), rows),
        code=1 if failed else 0,
        error=error,
    )


VERB = Verb(
    name="verify", help="check hashes, golden values and host", configure=_configure, run=_run
)
