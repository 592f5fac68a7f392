"""Texts and labels from a table, or from a folder of tables that are the parts of one set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.data.class_names import is_plain
from edgeml.data.dataset import TextDataset, text_fingerprint
from edgeml.data.tables import SUFFIXES, read_table
from edgeml.data.text_columns import PARTS, Reading, TextRows, read_rows
from edgeml.errors import DataError, InputError

_MOST_NUMBERS = 100
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def load_text_table(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    encoding: str | None = None,
) -> TextDataset:
    """Load texts and labels from a ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file.

    Labels are text, in numeric order where all are integers and else in alphabetical order. A
    column ``split`` (train, validation, test) gives fixed parts.

    Args:
        path: The table.
        text_column: Its column of texts; None looks for one of
            :data:`~edgeml.data.text_columns.TEXT_COLUMNS`.
        label_column: Its column of labels; None looks for one of
            :data:`~edgeml.data.text_columns.LABEL_COLUMNS`.
        multi_label_separator: What separates the labels of a text that may have several or none.
        encoding: The encoding of the file; None for UTF-8 or what a byte order mark says.

    Raises:
        DataError: The table cannot be read, a column is missing, rows lack a text or label, or the
            labels are no classes.
        InputError: The separator is empty.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    reading = _reading(text_column, label_column, multi_label_separator)
    rows = read_rows(read_table(path, encoding=encoding), reading, by_column=True)
    return _assemble(path, "table", rows, name=path.stem)


def load_text_folder(
    folder: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    encoding: str | None = None,
) -> TextDataset:
    """Load a folder with ``train.csv`` (or another kind of table) as one set with fixed parts.

    A table ``validation`` (or ``valid``, ``dev``, ``val``) and a table ``test`` beside it are the
    fixed parts; they have the columns of ``train``. A column ``split`` is not looked at.

    Args:
        folder: The folder.
        text_column: See :func:`load_text_table`.
        label_column: See :func:`load_text_table`.
        multi_label_separator: See :func:`load_text_table`.
        encoding: See :func:`load_text_table`.

    Raises:
        DataError: There is no table ``train``, two tables for one part, or see
            :func:`load_text_table`.
        InputError: See :func:`load_text_table`.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    reading = _reading(text_column, label_column, multi_label_separator)
    files = part_files(folder)
    train = read_rows(read_table(files["train"], encoding=encoding), reading, by_column=False)
    texts, labels, parts = [*train.texts], [*train.labels], ["train"] * len(train.texts)
    for part in ("validation", "test"):
        if part in files:
            table = read_table(files[part], encoding=encoding)
            rows = read_rows(table, train.reading, by_column=False)
            texts += rows.texts
            labels += rows.labels
            parts += [part] * len(rows.texts)
    whole = replace(train, texts=texts, labels=labels, parts=parts)
    return _assemble(folder, "folder of tables", whole, name=folder.absolute().name)


def part_files(folder: Path) -> dict[str, Path]:
    """Return the tables of a folder by the part that their names say.

    Raises:
        DataError: There is none for ``train``, or two for one part.
    """
    files: dict[str, Path] = {}
    tables = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in sorted(path for path in tables if path.stem.lower() in PARTS):
        part = PARTS[path.stem.lower()]
        if part in files:
            reason = (
                f"'{files[part].name}' and '{path.name}' are both the part {part}; one table a "
                "part was expected; remove one"
            )
            raise DataError(source=str(folder), reason=reason)
        files[part] = path
    if "train" not in files:
        reason = (
            f"there is no train table ({', '.join('train' + suffix for suffix in SUFFIXES)}) in "
            "this folder; one was expected; name a table, or its folder"
        )
        raise DataError(source=str(folder), reason=reason)
    return files


def _reading(text: str | None, label: str | None, separator: str | None) -> Reading:
    if separator == "":
        message = (
            "the separator of several labels is empty; a text such as '|' was expected; name one"
        )
        raise InputError(message, got=separator)
    return Reading(text_column=text, label_column=label, separator=separator)


def _assemble(path: Path, kind: str, rows: TextRows, *, name: str) -> TextDataset:
    reading = rows.reading
    cells = [_split(cell, reading.separator) for cell in rows.labels]
    labels = _order(str(path), {label for cell in cells for label in cell})
    targets = _encode(cells, labels, several=reading.separator is not None)
    if rows.parts is not None and "train" not in rows.parts:
        reason = "no row is to train on; rows of the part train were expected; add some"
        raise DataError(source=str(path), reason=reason)
    source = {
        "kind": kind,
        "path": path.name,
        "text_column": reading.text_column or "first of two, no header",
        "label_column": reading.label_column or "second of two, no header",
    }
    return TextDataset(
        name=name,
        labels=labels,
        items=rows.texts,
        targets=targets,
        fingerprint=text_fingerprint(rows.texts, labels, targets),
        source=source,
        fixed_test=_rows_of("test", rows.parts),
        fixed_validation=_rows_of("validation", rows.parts),
    )


def _split(cell: str, separator: str | None) -> list[str]:
    if separator is None:
        return [cell]
    return [label for piece in cell.split(separator) if (label := piece.strip())]


def _encode(
    cells: list[list[str]], labels: tuple[str, ...], *, several: bool
) -> npt.NDArray[np.int64] | npt.NDArray[np.bool_]:
    number = {label: index for index, label in enumerate(labels)}
    if not several:
        return np.array([number[cell[0]] for cell in cells], dtype=np.int64)
    targets = np.zeros((len(cells), len(labels)), dtype=bool)
    for row, cell in enumerate(cells):
        targets[row, [number[label] for label in cell]] = True
    return targets


def _rows_of(part: str, parts: list[str] | None) -> npt.NDArray[np.int64] | None:
    """Return the rows of a part, or None where no row is in it."""
    if parts is None or part not in parts:
        return None
    return np.flatnonzero(np.array(parts) == part)


def _order(source: str, labels: set[str]) -> tuple[str, ...]:
    """Return the labels in index order, or say why they are no classes."""
    unfit = sorted(label for label in labels if not is_plain(label))
    if unfit:
        reason = f"the label {unfit[0]!r} is not one printable line; rename it"
        raise DataError(source=source, reason=reason)
    if len(labels) < 2:
        found = f"only '{min(labels)}'" if labels else "no label"
        reason = f"a classifier needs at least two classes; found {found}; add rows of another"
        raise DataError(source=source, reason=reason)
    if all(_INTEGER.fullmatch(label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    if len(labels) > _MOST_NUMBERS and all(_is_number(label) for label in labels):
        reason = (
            f"the labels are {len(labels)} different numbers such as {min(labels)}, which looks "
            "like a quantity to predict; classes were expected; group them into classes first"
        )
        raise DataError(source=source, reason=reason)
    return tuple(sorted(labels))


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
