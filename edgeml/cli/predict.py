"""``edgeml predict``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_table
from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress
from edgeml.errors import EdgemlError, InputError

_MAX_STDIN_BYTES = 64 << 20  # above what an image may have, so that the refusal names its limit


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture; - reads stdin")
    parser.add_argument("--variant", default=None, help="default: the one that the export chose")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    import edgeml

    items = [_stdin() if name == "-" else name for name in arguments.inputs]
    with edgeml.load(
        arguments.bundle, variant=arguments.variant, num_threads=arguments.threads
    ) as predictor:
        answers = predictor.predict_batch(items, on_error="return")
    rows = [_row(name, answer) for name, answer in zip(arguments.inputs, answers, strict=True)]
    bad = [answer for answer in answers if isinstance(answer, EdgemlError)]
    error, code = None, 0
    if bad:
        error = f"{len(bad)} of {len(rows)} inputs were refused, first: {bad[0]}"
        code = 2 if any(isinstance(answer, InputError) for answer in bad) else 1
    return Outcome(
        result={"predictions": rows},
        show=lambda: _show(rows),
        code=code,
        error=error,
    )


def _stdin() -> bytes:
    """Read what is piped in; past the limit the image task refuses it by name."""
    return sys.stdin.buffer.read(_MAX_STDIN_BYTES)


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
