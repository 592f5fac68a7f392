"""``edgeml predict``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress
from edgeml.errors import EdgemlError, InputError

if TYPE_CHECKING:
    from edgeml.core.manifest import Manifest
    from edgeml.data.text_lines import Entry
    from edgeml.tasks.predictor import TaskPredictor
    from edgeml.workflows.offline import Refusals

_MAX_STDIN_BYTES = 64 << 20  # above what an image may have, so that the refusal names its limit
_SHOWN_CHARACTERS = 60


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, or text (after -- where it begins with a dash), or with --out a table; "
        "- reads stdin: one picture, or a text a line",
    )
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="one JSON object a line on stdout, as the answers come; with - a stream of any length "
        "is read: texts, or JSON objects with the key 'text' and perhaps 'id', which is repeated; "
        "answers come a window of some thousand lines at a time, the last ones at the end of input",
    )
    parser.add_argument(
        "--out",
        default=None,
        metavar="TABLE",
        help="answer the rows of INPUT (.csv, .tsv, .parquet, .jsonl) and write them here with "
        "the columns label, score, truncated and error added; the formats may differ",
    )
    parser.add_argument(
        "--text-column",
        default=None,
        metavar="NAME",
        help="column of the texts (--out), or their key in JSON lines (--jsonl)",
    )
    parser.add_argument("--variant", default=None, help="default: the one that the export chose")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml
    from edgeml.core.bundle import Bundle

    _check_flags(arguments)
    bundle = Bundle.read(arguments.bundle)
    manifest = bundle.manifest
    _check_inputs(arguments, manifest)
    with edgeml.load(bundle, variant=arguments.variant, num_threads=arguments.threads) as predictor:
        if arguments.out is not None:
            return _answer_table(arguments, predictor, manifest, progress)
        if arguments.jsonl:
            return _answer_lines(arguments, predictor, manifest)
        return _answer_all(arguments, predictor, manifest)


def _check_flags(arguments: argparse.Namespace) -> None:
    if arguments.jsonl and (arguments.json or arguments.out is not None):
        other = "--json" if arguments.json else "--out"
        raise InputError(f"--jsonl and {other} were both given; one was expected; leave one out")
    if arguments.text_column is not None and not arguments.jsonl and arguments.out is None:
        raise InputError(
            "--text-column names a column of a table or a key of JSON lines; --out or --jsonl was "
            "expected beside it; add one"
        )


def _check_inputs(arguments: argparse.Namespace, manifest: Manifest) -> None:
    """Refuse inputs that would be taken for something else than was meant."""
    if not _is_text(manifest):
        for flag, value in (("--out", arguments.out), ("--text-column", arguments.text_column)):
            if value is not None:
                raise InputError(
                    f"{flag} is for tables of texts; this bundle's task is '{manifest.task}'; "
                    "name pictures, with --jsonl for a line each"
                )
    elif arguments.out is None:
        for name in arguments.inputs:
            _check_no_file(name)
    elif len(arguments.inputs) != 1 or arguments.inputs == ["-"]:
        raise InputError("--out takes one table; the path of one was expected; name it")


def _check_no_file(name: str) -> None:
    from edgeml.data.tables import SUFFIXES

    try:
        if name == "-" or not Path(name).is_file():
            return
    except (OSError, ValueError):  # too long for a path
        return
    if Path(name).suffix.lower() in SUFFIXES:
        advice = "answer its rows with --out, such as '--out answers.csv'"
    else:
        advice = "send its lines with '-' and a '<' before it, or the name itself through a pipe"
    raise InputError(f"this is a file, and a text was expected; {advice}", item=name)


def _answer_table(
    arguments: argparse.Namespace,
    predictor: TaskPredictor,
    manifest: Manifest,
    progress: Progress,
) -> Outcome:
    from edgeml.workflows.offline import predict_table

    done = predict_table(
        predictor,
        arguments.inputs[0],
        arguments.out,
        text_column=arguments.text_column,
        multi_label=manifest.multi_label,
        progress=progress,
    )
    error, code = _verdict(done.refusals, done.rows, "rows")
    columns = ", ".join(done.columns)
    return Outcome(
        result={
            "rows": done.rows,
            "errors": done.errors,
            "out": str(done.out),
            "seconds": round(done.seconds, 3),
            "texts_per_s": round(done.texts_per_s, 1),
        },
        show=lambda: show_line(
            f"{done.out}: {done.rows} rows, {done.errors} with an error, {done.texts_per_s:.0f} "
            f"texts/s; added {columns}"
        ),
        code=code,
        error=error,
    )


def _answer_lines(
    arguments: argparse.Namespace, predictor: TaskPredictor, manifest: Manifest
) -> Outcome:
    from edgeml.workflows.offline import Refusals, answer_stream

    refusals, total = Refusals(), 0
    entries = _flushing(_entries(arguments, manifest))
    for entry, answer in answer_stream(predictor, entries):
        refusals.note(answer)
        total += 1
        row = {**entry.keys, **_row(entry, answer, manifest)}
        sys.stdout.write(json.dumps(row, allow_nan=False) + "\n")
    sys.stdout.flush()
    error, code = _verdict(refusals, total, "inputs")
    return Outcome(result={}, code=code, error=error)


def _flushing(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Let no answer lie in a buffer while we wait for more input."""
    while True:
        sys.stdout.flush()
        entry = next(entries, None)
        if entry is None:
            return
        yield entry


def _answer_all(
    arguments: argparse.Namespace, predictor: TaskPredictor, manifest: Manifest
) -> Outcome:
    from edgeml.workflows.offline import Refusals, item_of, settle

    refusals = Refusals()
    entries = list(_entries(arguments, manifest))
    answers = predictor.predict_batch(map(item_of, entries), on_error="return")
    rows = []
    for entry, given in zip(entries, answers, strict=True):
        answer = settle(entry, given)
        refusals.note(answer)
        rows.append(_row(entry, answer, manifest))
    error, code = _verdict(refusals, len(rows), "inputs")
    return Outcome(
        result={"predictions": rows}, show=lambda: _show(rows, manifest), code=code, error=error
    )


def _entries(arguments: argparse.Namespace, manifest: Manifest) -> Iterator[Entry]:
    from edgeml.data.text_lines import Entry, plain_entries, text_entries

    for name in arguments.inputs:
        if name != "-":
            yield Entry(item=name, shown=name)
        elif not _is_text(manifest):
            # Past the limit the image task refuses it by name.
            yield Entry(item=sys.stdin.buffer.read(_MAX_STDIN_BYTES), shown=name)
        elif arguments.jsonl:
            yield from text_entries(sys.stdin.buffer, column=arguments.text_column)
        else:
            yield from plain_entries(sys.stdin.buffer)


def _is_text(manifest: Manifest) -> bool:
    return manifest.task == "text-classification"


def _verdict(refusals: Refusals, total: int, what: str) -> tuple[str | None, int]:
    """Return the error line and the exit code."""
    if not refusals.count:
        return None, 0
    text = f"{refusals.count} of {total} {what} were refused, first: {refusals.first}"
    return text, 2 if refusals.of_input else 1


def _row(entry: Entry, answer: Prediction | EdgemlError, manifest: Manifest) -> dict[str, Any]:
    refused = isinstance(answer, EdgemlError)
    given = Prediction() if isinstance(answer, EdgemlError) else answer
    row: dict[str, Any] = {
        "input": entry.shown,
        "label": given.label,
        "score": None if refused else given.score,
        "scores": dict(given.scores),
    }
    if manifest.multi_label:
        row["labels"] = list(given.labels)
    if _is_text(manifest):
        row["truncated"] = None if refused else given.truncated
    if not refused:
        row["served_by"] = given.served_by
    row["error"] = str(answer) if refused else None
    return row


def _show(rows: Iterable[dict[str, Any]], manifest: Manifest) -> None:
    lines = []
    for row in rows:
        cut = " (cut)" if row.get("truncated") else ""
        label = ", ".join(row["labels"]) if manifest.multi_label else row["label"]
        score = "-" if row["score"] is None else f"{row['score']:.4f}"
        name = row["input"] or "-"
        if _is_text(manifest):
            name = _short(name)
        # A name may hold bytes that no terminal takes.
        name = name.encode(errors="replace").decode()
        lines.append((name, label or "-", score, row["error"] or f"{row['served_by']}{cut}"))
    show_table("predictions", ("input", "label", "score", "served by"), lines)


def _short(text: str) -> str:
    one = " ".join(text[: 4 * _SHOWN_CHARACTERS].split())
    short = len(text) > 4 * _SHOWN_CHARACTERS or len(one) > _SHOWN_CHARACTERS
    return f"{one[:_SHOWN_CHARACTERS]}…" if short else one


VERB = Verb(
    name="predict", help="answer pictures or texts in-process", configure=_configure, run=_run
)
