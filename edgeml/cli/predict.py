"""``edgeml predict``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_table
from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress
from edgeml.errors import EdgemlError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture; - reads stdin")
    parser.add_argument("--variant", default=None, help="default: the one that the export chose")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    import edgeml

    items = [sys.stdin.buffer.read() if name == "-" else name for name in arguments.inputs]
    with edgeml.load(
        arguments.bundle, variant=arguments.variant, num_threads=arguments.threads
    ) as predictor:
        answers = predictor.predict_batch(items, on_error="return")
    rows = [_row(name, answer) for name, answer in zip(arguments.inputs, answers, strict=True)]
    bad = [row for row in rows if row["error"] is not None]
    error = None
    if bad:
        error = f"{len(bad)} of {len(rows)} inputs were refused, first: {bad[0]['error']}"
    return Outcome(
        result={"predictions": rows},
        show=lambda: _show(rows),
        code=2 if bad else 0,
        error=error,
    )


def _row(name: str, answer: Prediction | EdgemlError) -> dict[str, Any]:
    if isinstance(answer, EdgemlError):
        return {"input": name, "label": None, "score": None, "scores": {}, "error": str(answer)}
    return {
        "input": name,
        "label": answer.label,
        "score": answer.score,
        "scores": dict(answer.scores),
        "served_by": answer.served_by,
        "error": None,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    lines = [
        (
            row["input"],
            row["label"] or "-",
            "-" if row["score"] is None else f"{row['score']:.4f}",
            row["error"] or row["served_by"],
        )
        for row in rows
    ]
    show_table("predictions", ("input", "label", "score", "served by"), lines)


VERB = Verb(name="predict", help="answer pictures in-process", configure=_configure, run=_run)
