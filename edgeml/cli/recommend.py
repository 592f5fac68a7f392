"""``edgeml recommend``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_table
from edgeml.core.progress import Progress
from edgeml.errors import InputError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--user", default=None, help="id as in the log; without: by --history")
    parser.add_argument("--k", type=int, default=20, help="how many items (20)")
    parser.add_argument(
        "--history", default=None, metavar="A,B,C", help="items that were wanted, oldest first"
    )
    parser.add_argument(
        "--candidates", default=None, metavar="A,B,C", help="choose among these items alone"
    )
    parser.add_argument(
        "--context",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what is known of the request; may be repeated",
    )
    parser.add_argument("--variant", default=None, help="variant of the ranker (the chosen one)")
    parser.add_argument("--threads", type=int, default=None, help="threads of the ranker (1)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    import edgeml

    with edgeml.load_recommender(
        arguments.bundle, variant=arguments.variant, num_threads=arguments.threads
    ) as recommender:
        found = recommender.recommend(
            arguments.user,
            arguments.k,
            history=_listed(arguments.history),
            candidates=_listed(arguments.candidates),
            context=_context(arguments.context),
        )
        served_by = recommender.served_by
    rows = [row.to_json() for row in found]
    result = {"user": arguments.user, "recommendations": rows, "served_by": served_by}
    return Outcome(result=result, show=lambda: _show(rows, served_by))


def _listed(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def _context(pairs: list[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise InputError(f"'{pair}' is no NAME=VALUE", item="--context")
        found[name] = value
    return found


def _show(rows: list[dict[str, Any]], served_by: str) -> None:
    table = [
        (str(place), row["item"], f"{row['score']:.4f}", "; ".join(row["reasons"]))
        for place, row in enumerate(rows, start=1)
    ]
    show_table(f"recommendations ({served_by})", ("", "item", "score", "reasons"), table)


VERB = Verb(name="recommend", help="recommend items to a user", configure=_configure, run=_run)
