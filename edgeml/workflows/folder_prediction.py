"""Answer a folder of pictures into a table: in order, resumable, and whole or not there.

Answers are first appended to ``<out>.partial``, a line of JSON each, which is written out after
every window of the predictor's. A run that is killed leaves that file, and the next one with
``resume`` goes on after its last whole line. When all are answered, the table takes its place.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.picture_files import SUFFIXES as PICTURES
from edgeml.data.picture_files import PassedOver, find_pictures
from edgeml.errors import DataError, EdgemlError, HostError, InputError
from edgeml.tasks.predictor import TaskPredictor
from edgeml.workflows.offline import Refusals

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
COLUMNS = ("input", "label", "score", "error")
_FLUSH_EVERY = 32


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """A folder that was answered.

    Attributes:
        pictures: Pictures of the folder.
        out: The table.
        resumed: Pictures that an earlier, unfinished run had answered.
        seconds: Time of this run.
        refusals: Pictures of this run that have an error instead of an answer.
        errors: Pictures in the table that have one.
        passed_over: What else is in the folder.
    """

    pictures: int
    out: Path
    resumed: int
    seconds: float
    errors: int
    refusals: Refusals = field(default_factory=Refusals)
    passed_over: PassedOver = field(default_factory=PassedOver)

    @property
    def pictures_per_s(self) -> float:
        """Pictures of this run a second."""
        done = self.pictures - self.resumed
        return done / self.seconds if self.seconds > 0 else 0.0


def pictures_to_predict(folder: Path) -> tuple[list[Path], PassedOver]:
    """Return a folder's pictures and those of its sub-folders, in order, and what else is in it.

    Raises:
        InputError: There is no such folder, or it has no pictures.
        DataError: A folder cannot be listed.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder; one of pictures was expected", item=str(folder))
    files, passed_over = find_pictures(folder)
    if not files:
        raise InputError(
            f"this folder has no pictures: it holds {passed_over.words() or 'no files'}; some "
            f"ending in {', '.join(sorted(PICTURES))} were expected; check the path",
            item=str(folder),
        )
    return files, passed_over


def predict_folder(
    predictor: TaskPredictor,
    folder: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> FolderResult:
    """Answer the pictures of a folder and its sub-folders into a table.

    The table has a row a picture in the order of their paths: ``input`` (relative to the folder),
    ``label``, ``score``, ``error``. A picture that cannot be read has its error and no label.

    Args:
        predictor: An image classifier; it stays open.
        folder: Where the pictures are.
        out: A ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file; replaced if it is there.
        resume: Whether to go on with an unfinished run into the same table.
        progress: Told how many pictures are done.

    Raises:
        InputError: There is no such folder, it has no pictures, ``out`` is no table, or there is
            no unfinished run of the same pictures and model to resume.
        DataError: A folder cannot be listed.
        HostError: The table cannot be written.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    folder, out = Path(folder), Path(out)
    _check_out(out)
    files, passed_over = pictures_to_predict(folder)
    names = [path.relative_to(folder).as_posix() for path in files]
    partial = out.with_name(f"{out.name}.partial")
    head = {"folder": str(folder.absolute()), "served_by": predictor.served_by}
    began = time.perf_counter()
    try:
        done = _resumable(partial, head, names) if resume else 0
        if not done:
            partial.write_text(json.dumps(head) + "\n", encoding="utf-8")
        refusals = _append_answers(partial, predictor, files, names, done=done, progress=progress)
        errors = _write_table(partial, out)
        partial.unlink()
    except OSError as exc:
        if isinstance(exc, EdgemlError):
            raise
        raise HostError(
            what=f"{out} cannot be written ({exc.strerror or exc})",
            needed="free some space or choose another --out, and go on with --resume",
        ) from exc
    return FolderResult(
        pictures=len(names),
        out=out,
        resumed=done,
        seconds=time.perf_counter() - began,
        errors=errors,
        refusals=refusals,
        passed_over=passed_over,
    )


def _append_answers(
    partial: Path,
    predictor: TaskPredictor,
    files: Sequence[Path],
    names: Sequence[str],
    *,
    done: int,
    progress: Progress,
) -> Refusals:
    """Answer all pictures but the first ``done`` into ``partial``; return what was refused."""
    began, refusals = time.perf_counter(), Refusals()
    with partial.open("a", encoding="utf-8") as file:
        answers = predictor.predict_stream(iter(files[done:]), on_error="return")
        for index, answer in enumerate(answers, start=done):
            refusals.note(answer)
            file.write(json.dumps(_row(names[index], answer), allow_nan=False) + "\n")
            if (index + 1) % _FLUSH_EVERY == 0 or index + 1 == len(names):
                file.flush()
                rate = (index + 1 - done) / (time.perf_counter() - began)
                progress(ProgressEvent(stage="predict", done=index + 1, total=len(names),
                                       note=f"{rate:.0f} pictures/s"))  # fmt: skip
    return refusals


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"the ending '{out.suffix}' is no table's; {', '.join(SUFFIXES)} was expected",
            item=str(out),
        )
    place = out.absolute().parent
    if out.is_dir() or not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"no file can be written there; a new file in a folder to write in was expected, "
            f"and '{place}' is none or the name is a folder's",
            item=str(out),
        )
    if out.suffix.lower() == ".parquet":
        require("pyarrow", extra="tables")


def _row(name: str, answer: Prediction | EdgemlError) -> dict[str, Any]:
    # A file's name may hold bytes that no text takes.
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(answer, EdgemlError):
        return {"input": name, "label": None, "score": None, "error": str(answer)}
    return {"input": name, "label": answer.label, "score": answer.score, "error": None}


def _resumable(partial: Path, head: Mapping[str, Any], names: Sequence[str]) -> int:
    """Return how many pictures an unfinished run has answered, and cut its half last line off."""
    if not partial.is_file():
        raise InputError(
            "there is no unfinished run to resume; one was expected; predict without --resume",
            item=str(partial),
        )
    with partial.open("rb") as file:
        first = file.readline()
        done, kept = 0, len(first)
        try:
            if json.loads(first) != dict(head):
                raise ValueError("it is of another folder or model")
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if json.loads(line)["input"] != _row(names[done], Prediction())["input"]:
                    raise ValueError(f"picture {done + 1} is another one")
                done, kept = done + 1, kept + len(line)
        except (ValueError, KeyError, IndexError, TypeError) as exc:
            raise DataError(
                source=str(partial),
                reason=f"this run cannot be resumed ({exc}); predict without --resume",
            ) from exc
    os.truncate(partial, kept)
    return done


def _rows(partial: Path) -> Iterator[dict[str, Any]]:
    with partial.open(encoding="utf-8") as file:
        file.readline()
        for line in file:
            yield json.loads(line)


def _write_table(partial: Path, out: Path) -> int:
    """Write the table beside its place and put it there; return how many rows have an error."""
    staged = out.with_name(f".{out.name}.partial-{os.getpid()}")
    errors, suffix = 0, out.suffix.lower()
    try:
        if suffix == ".parquet":
            rows = list(_rows(partial))
            errors = sum(row["error"] is not None for row in rows)
            _write_parquet(staged, rows)
        else:
            with staged.open("w", encoding="utf-8", newline="") as file:
                delimiter = "\t" if suffix == ".tsv" else ","
                writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
                if suffix != ".jsonl":
                    writer.writerow(COLUMNS)
                for row in _rows(partial):
                    errors += row["error"] is not None
                    if suffix == ".jsonl":
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    else:
                        writer.writerow(
                            ["" if row[name] is None else row[name] for name in COLUMNS]
                        )
        with staged.open("rb") as whole:
            os.fsync(whole.fileno())
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return errors


def _write_parquet(place: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    kinds = {name: arrow.float64() if name == "score" else arrow.string() for name in COLUMNS}
    schema = arrow.schema([arrow.field(name, kind) for name, kind in kinds.items()])
    columns = [arrow.array([row[name] for row in rows], kinds[name]) for name in COLUMNS]
    parquet.write_table(arrow.Table.from_arrays(columns, schema=schema), str(place))
