"""``edgeml predict``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.cli.predict_arrays import answer_archive, array_entries, check_archive
from edgeml.cli.predict_rows import is_tensor, is_text, row_of, show_rows, verdict
from edgeml.core.progress import Progress
from edgeml.errors import InputError

if TYPE_CHECKING:
    from edgeml.core.manifest import Manifest
    from edgeml.data.picture_files import PassedOver
    from edgeml.data.text_lines import Entry
    from edgeml.tasks.predictor import TaskPredictor

_MAX_STDIN_BYTES = 64 << 20  # above what an image may have, so that the refusal names its limit


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture or folder of pictures, or text (after -- where it begins with a dash), or "
        "with --out a folder of pictures or a table of texts; for other models an .npz with one "
        "array per input, first axis samples, or an .npy where there is one input; - reads stdin: "
        "one picture, a text a line, or such a file",
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
        metavar="FILE",
        help="answer the rows of INPUT (.csv, .tsv, .parquet, .jsonl) and write them here with "
        "the columns label, score, truncated and error added; the formats may differ; from a "
        "folder of pictures a table input, label, score, error; from arrays an .npz with the "
        "outputs",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an unfinished --out of a folder of pictures",
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
    folders = _pictures_in(arguments, manifest)
    with edgeml.load(bundle, variant=arguments.variant, num_threads=arguments.threads) as predictor:
        if arguments.out is not None and is_tensor(manifest):
            return answer_archive(arguments.inputs, arguments.out, predictor, progress)
        if arguments.out is not None and not is_text(manifest):
            return _answer_folder(arguments, predictor, progress)
        if arguments.out is not None:
            return _answer_table(arguments, predictor, manifest, progress)
        if arguments.jsonl:
            return _answer_lines(arguments, predictor, manifest, folders)
        return _answer_all(arguments, predictor, manifest, folders)


def _check_flags(arguments: argparse.Namespace) -> None:
    if arguments.jsonl and (arguments.json or arguments.out is not None):
        other = "--json" if arguments.json else "--out"
        raise InputError(f"--jsonl and {other} were both given; one was expected; leave one out")
    if arguments.resume and arguments.out is None:
        raise InputError(
            "--resume goes on with an unfinished --out; one was expected beside it; add it, or "
            "leave --resume out"
        )
    if arguments.text_column is not None and not arguments.jsonl and arguments.out is None:
        raise InputError(
            "--text-column names a column of a table or a key of JSON lines; --out or --jsonl was "
            "expected beside it; add one"
        )


def _check_inputs(arguments: argparse.Namespace, manifest: Manifest) -> None:
    """Refuse inputs that would be taken for something else than was meant."""
    if is_tensor(manifest):
        _check_arrays(arguments)
    elif not is_text(manifest):
        if arguments.text_column is not None:
            raise InputError(
                f"--text-column is for texts; this bundle's task is '{manifest.task}'; leave it out"
            )
        from edgeml.data.picture_files import is_folder

        one_folder = len(arguments.inputs) == 1 and is_folder(Path(arguments.inputs[0]))
        if arguments.out is not None and not one_folder:
            raise InputError(
                "--out takes one folder of pictures; the path of one was expected; name it, or "
                "leave --out out and take --jsonl for a line each"
            )
    elif arguments.resume:
        raise InputError("--resume is for a folder of pictures; leave it out for texts")
    elif arguments.out is None:
        for name in arguments.inputs:
            _check_no_file(name)
    elif len(arguments.inputs) != 1 or arguments.inputs == ["-"]:
        raise InputError("--out takes one table; the path of one was expected; name it")


def _check_arrays(arguments: argparse.Namespace) -> None:
    if arguments.text_column is not None:
        raise InputError(
            "--text-column is for texts; this bundle's task is 'tensor'; leave it out and name the "
            "arrays after the model's inputs"
        )
    if arguments.out is not None:
        check_archive(arguments.inputs, arguments.out)


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


def _pictures_in(arguments: argparse.Namespace, manifest: Manifest) -> dict[str, list[Path]]:
    """Return the pictures of each input that is a folder; with --out the workflow finds them."""
    if arguments.out is not None or is_text(manifest) or is_tensor(manifest):
        return {}
    from edgeml.data.picture_files import is_folder
    from edgeml.workflows.folder_prediction import pictures_to_predict

    found = {}
    for name in arguments.inputs:
        if name != "-" and is_folder(Path(name)):
            found[name], passed_over = pictures_to_predict(Path(name))
            _tell_passed_over(name, passed_over)
    return found


def _tell_passed_over(folder: str, passed_over: PassedOver) -> None:
    if words := passed_over.words():
        line = f"note: {folder}: left out: {words}"
        sys.stderr.write(f"{' '.join(line.split())}\n")


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
    error, code = verdict(done.refusals, done.rows, "rows")
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


def _answer_folder(
    arguments: argparse.Namespace, predictor: TaskPredictor, progress: Progress
) -> Outcome:
    from edgeml.workflows.folder_prediction import predict_folder

    done = predict_folder(
        predictor,
        arguments.inputs[0],
        arguments.out,
        resume=arguments.resume,
        progress=progress,
    )
    _tell_passed_over(arguments.inputs[0], done.passed_over)
    error, code = verdict(done.refusals, done.pictures, "pictures")
    return Outcome(
        result={
            "pictures": done.pictures,
            "errors": done.errors,
            "resumed": done.resumed,
            "out": str(done.out),
            "seconds": round(done.seconds, 3),
            "pictures_per_s": round(done.pictures_per_s, 1),
        },
        show=lambda: show_line(
            f"{done.out}: {done.pictures} pictures, {done.errors} with an error, "
            f"{done.pictures_per_s:.0f} pictures/s"
        ),
        code=code,
        error=error,
    )


def _answer_lines(
    arguments: argparse.Namespace,
    predictor: TaskPredictor,
    manifest: Manifest,
    folders: Mapping[str, Sequence[Path]],
) -> Outcome:
    from edgeml.workflows.offline import Refusals, answer_stream

    refusals, total = Refusals(), 0
    entries = _flushing(_entries(arguments, manifest, folders))
    for entry, answer in answer_stream(predictor, entries):
        refusals.note(answer)
        total += 1
        row = {**entry.keys, **row_of(entry, answer, manifest)}
        sys.stdout.write(json.dumps(row, allow_nan=False) + "\n")
    sys.stdout.flush()
    error, code = verdict(refusals, total, "inputs")
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
    arguments: argparse.Namespace,
    predictor: TaskPredictor,
    manifest: Manifest,
    folders: Mapping[str, Sequence[Path]],
) -> Outcome:
    from edgeml.workflows.offline import Refusals, item_of, settle

    refusals = Refusals()
    entries = list(_entries(arguments, manifest, folders))
    answers = predictor.predict_batch(map(item_of, entries), on_error="return")
    rows = []
    for entry, given in zip(entries, answers, strict=True):
        answer = settle(entry, given)
        refusals.note(answer)
        rows.append(row_of(entry, answer, manifest))
    error, code = verdict(refusals, len(rows), "inputs")
    return Outcome(
        result={"predictions": rows}, show=lambda: show_rows(rows, manifest), code=code, error=error
    )


def _entries(
    arguments: argparse.Namespace, manifest: Manifest, folders: Mapping[str, Sequence[Path]]
) -> Iterator[Entry]:
    from edgeml.data.text_lines import Entry, plain_entries, text_entries

    if is_tensor(manifest):
        yield from array_entries(arguments.inputs, manifest.signature)
        return
    for name in arguments.inputs:
        if name in folders:
            for file in folders[name]:
                yield Entry(item=str(file), shown=str(file))
        elif name != "-":
            yield Entry(item=name, shown=name)
        elif not is_text(manifest):
            # Past the limit the image task refuses it by name.
            yield Entry(item=sys.stdin.buffer.read(_MAX_STDIN_BYTES), shown=name)
        elif arguments.jsonl:
            yield from text_entries(sys.stdin.buffer, column=arguments.text_column)
        else:
            yield from plain_entries(sys.stdin.buffer)


VERB = Verb(
    name="predict",
    help="answer pictures, texts or arrays in-process",
    configure=_configure,
    run=_run,
)
