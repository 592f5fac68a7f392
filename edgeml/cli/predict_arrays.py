"""``edgeml predict`` for bundles that take named arrays: samples from files, outputs into one."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.cli.output import Outcome, show_line
from edgeml.core.archives import write_archive
from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import DataError, EdgemlError, InputError

if TYPE_CHECKING:
    from edgeml.core.signature import ModelSignature
    from edgeml.data.text_lines import Entry
    from edgeml.tasks.predictor import TaskPredictor

_SUFFIX = ".npz"


def array_entries(names: Sequence[str], signature: ModelSignature) -> Iterator[Entry]:
    """Read samples from files, or with ``-`` from stdin; a file that is unusable is one entry.

    Args:
        names: ``.npz`` files, or ``.npy`` files for a model with one input.
        signature: Inputs of the model.

    Yields:
        An entry a sample, called ``FILE[NUMBER]``.
    """
    from edgeml.data.arrays import read_samples
    from edgeml.data.text_lines import Entry

    for name in names:
        source = sys.stdin.buffer.read() if name == "-" else name
        try:
            inputs = read_samples(source, signature, name=name)
        except DataError as exc:
            yield Entry(item=exc, shown=name)
            continue
        for row in range(len(next(iter(inputs.values())))):
            sample = {key: array[row] for key, array in inputs.items()}
            yield Entry(item=sample, shown=f"{name}[{row}]")


def check_archive(names: Sequence[str], out: str) -> None:
    """Refuse a request for a file of outputs before the work that would fill it.

    Args:
        names: The inputs.
        out: Where the outputs shall stand.

    Raises:
        InputError: There is not one input, or ``out`` is no place for an ``.npz`` file.
    """
    place = Path(out)
    folder = place.absolute().parent
    if len(names) != 1:
        raise InputError(f"--out takes one input; {len(names)} were given; answer each by itself")
    if place.suffix.lower() != _SUFFIX:
        reason = f"the suffix '{place.suffix}' is not {_SUFFIX}, which holds the outputs' arrays"
    elif place.exists() and not place.is_file():
        reason = "this exists and is not a file; a new place was expected"
    elif place.exists() and Path(names[0]).exists() and place.samefile(names[0]):
        reason = "this is the file that is read; another one was expected"
    elif not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = f"no file can be written in '{folder}'; a folder to write in was expected"
    else:
        return
    raise InputError(f"{reason}; choose another --out", item=out)


def answer_archive(
    names: Sequence[str], out: str, predictor: TaskPredictor, progress: Progress
) -> Outcome:
    """Answer one file and write the outputs as arrays, first axis samples.

    Args:
        names: The one input.
        out: Where the outputs shall stand; replaced if it is there.
        predictor: What answers.
        progress: Told how many samples are done.

    Raises:
        EdgemlError: A sample could not be answered; nothing is written then.
    """
    from edgeml.workflows.offline import answer_stream

    answers: list[Prediction] = []
    for entry, answer in answer_stream(predictor, array_entries(names, predictor.signature)):
        if isinstance(answer, EdgemlError):
            if not isinstance(answer, DataError):  # one sample is at fault, and not the file
                answer.add_note(f"{entry.shown}; nothing was written; --jsonl keeps the others")
            raise answer
        answers.append(answer)
        progress(ProgressEvent(stage="predict", done=len(answers), total=0))
    outputs = _stacked(answers)
    _write(Path(out), write_archive(outputs))
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    served_by = answers[0].served_by
    return Outcome(
        result={"samples": len(answers), "out": out, "outputs": shapes, "served_by": served_by},
        show=lambda: show_line(
            f"{out}: {len(answers)} samples, {', '.join(outputs)}; answered by {served_by}"
        ),
    )


def _stacked(answers: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
    rows = [answer.outputs or {} for answer in answers]
    stacked = {}
    for name in rows[0]:
        arrays = [row[name] for row in rows]
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise InputError(
                f"the outputs '{name}' have shapes such as {shapes[0]} and {shapes[1]}, which one "
                "array cannot hold; equal ones were expected; use --jsonl"
            )
        stacked[name] = np.stack(arrays)
    return stacked


def _write(place: Path, contents: bytes) -> None:
    """Write a file beside its place and put it there in one step."""
    pending = place.with_name(f".{place.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        pending.write_bytes(contents)
        pending.replace(place)
    finally:
        pending.unlink(missing_ok=True)
