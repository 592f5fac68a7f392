"""Answer what does not fit into memory: streams of texts, and tables into tables.

What could not be read keeps its place: its error stands where its answer would, and no model sees
it. Nothing here holds more than some windows of the predictor's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeml.core.predictor import Prediction
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.table_chunks import Chunk
from edgeml.data.table_sink import added_columns, check_sink, open_sink
from edgeml.data.table_stream import open_table_stream
from edgeml.data.text_lines import Entry
from edgeml.errors import DataError, EdgemlError, InputError
from edgeml.tasks.predictor import TaskPredictor

LABELS_SEPARATOR = "|"

Answer = Prediction | EdgemlError


@dataclass(kw_only=True)
class Refusals:
    """What could not be answered.

    Attributes:
        count: How many inputs.
        first: The error of the first.
        of_input: Whether an input is to blame for one of them, not the model alone.
    """

    count: int = 0
    first: EdgemlError | None = None
    of_input: bool = False

    def note(self, answer: Answer) -> None:
        """Take note of an answer that is an error."""
        if isinstance(answer, EdgemlError):
            self.count += 1
            self.first = self.first or answer
            self.of_input = self.of_input or isinstance(answer, (InputError, DataError))


@dataclass(frozen=True, kw_only=True)
class OfflineResult:
    """A table that was answered.

    Attributes:
        rows: Rows of the table.
        out: The new table.
        columns: Names of the columns that it has beside the old one's.
        seconds: Time from the first row read to the last one written.
        refusals: Rows that have an error instead of an answer.
    """

    rows: int
    out: Path
    columns: tuple[str, ...]
    seconds: float
    refusals: Refusals = field(default_factory=Refusals)

    @property
    def errors(self) -> int:
        """How many rows have an error instead of an answer."""
        return self.refusals.count

    @property
    def texts_per_s(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


def settle(entry: Entry, answer: Answer) -> Answer:
    """Return an entry's answer: its own error where it could not be read."""
    return entry.item if isinstance(entry.item, EdgemlError) else answer


def item_of(entry: Entry) -> Any:
    """Return what a predictor is given for an entry: None, which each task refuses, for no text."""
    return None if isinstance(entry.item, EdgemlError) else entry.item


def answer_stream(
    predictor: TaskPredictor, entries: Iterable[Entry]
) -> Iterator[tuple[Entry, Answer]]:
    """Answer a stream of inputs in their order, in bounded memory.

    Args:
        predictor: What answers.
        entries: Read as far as needed: one window of the predictor's task ahead.

    Yields:
        Each entry with its prediction, or with the error that stands for it.

    Raises:
        ClosedError: The predictor was closed.
        InferenceError: The runtime could not compute a batch.
    """
    pending: deque[Entry] = deque()

    def items() -> Iterator[Any]:
        for entry in entries:
            pending.append(entry)
            yield item_of(entry)

    for answer in predictor.predict_stream(items(), on_error="return"):
        entry = pending.popleft()
        yield entry, settle(entry, answer)


def predict_table(
    predictor: TaskPredictor,
    source: str | Path,
    out: str | Path,
    *,
    text_column: str | None = None,
    multi_label: bool = False,
    progress: Progress = silent,
) -> OfflineResult:
    """Answer a table of texts and write it anew with the answers as columns.

    The new table has the rows and columns of the old one in their order, then ``label``, ``score``,
    ``labels`` (several, with ``|`` between them, for multi-label models), ``truncated`` and
    ``error``. Where it has such a column already, the new one's name begins with ``predicted_``,
    and ``label``, ``score`` and ``labels`` go together. A row without a usable text has its error,
    and no label; an empty text is answered like any other. Both tables are read and written in
    chunks, and ``out`` appears when it is whole.

    Args:
        predictor: A text classifier; it stays open.
        source: A ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file.
        out: A file of one of these kinds, perhaps another one; replaced if it is there.
        text_column: The column of texts; None looks for one with a known name.
        multi_label: Whether the model gives a text several labels.
        progress: Told how many rows are done.

    Returns:
        What was done.

    Raises:
        DataError: The table or its column of texts is missing, it cannot be read at all, or
            ``out`` cannot be written.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
        ClosedError: The predictor was closed.
        InferenceError: The runtime could not compute a batch.
    """
    source, out = Path(source), Path(out)
    if source.exists():
        check_sink(source, out)
    table = open_table_stream(source, text_column=text_column)
    wanted: dict[str, type] = {"label": str, "score": float}
    wanted |= {"labels": str} if multi_label else {}
    added = added_columns(table, wanted | {"truncated": bool, "error": str})
    start = time.perf_counter()
    refusals, done = Refusals(), 0
    with open_sink(out, table, added) as sink:
        for chunk, answers in _answer_chunks(predictor, table.chunks()):
            for answer in answers:
                refusals.note(answer)
            sink.write(chunk, [_values(answer, multi_label=multi_label) for answer in answers])
            done += len(answers)
            note = f"{done / (time.perf_counter() - start):.0f} texts/s"
            progress(ProgressEvent(stage="predict", done=done, total=table.num_rows, note=note))
    return OfflineResult(
        rows=done,
        out=out,
        columns=tuple(added),
        seconds=time.perf_counter() - start,
        refusals=refusals,
    )


def _answer_chunks(
    predictor: TaskPredictor, chunks: Iterable[Chunk]
) -> Iterator[tuple[Chunk, list[Answer]]]:
    """Answer chunks, which are not windows, and give each back with its answers."""
    pending: deque[Chunk] = deque()

    def entries() -> Iterator[Entry]:
        for chunk in chunks:
            pending.append(chunk)
            for text in chunk.texts:
                yield Entry(item=text, shown=None)

    answers: list[Answer] = []
    for _, answer in answer_stream(predictor, entries()):
        answers.append(answer)
        if len(answers) == len(pending[0].texts):
            yield pending.popleft(), answers
            answers = []


def _values(answer: Answer, *, multi_label: bool) -> Sequence[Any]:
    """Return the values of the added columns."""
    if isinstance(answer, EdgemlError):
        several: tuple[Any, ...] = (None,) if multi_label else ()
        return (None, None, *several, None, str(answer))
    several = (LABELS_SEPARATOR.join(answer.labels),) if multi_label else ()
    return (answer.label, answer.score, *several, answer.truncated, None)
