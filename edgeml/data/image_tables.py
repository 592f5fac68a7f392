"""Tables beside pictures: ``groups.csv`` (``file,group``) and manifests (``file,label``).

Paths are relative to the table's folder. A file that a table names and that is not there is an
error, never left out; so is a picture without a group where groups are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.data.delimited import comma_rows, tab_rows
from edgeml.errors import DataError

GROUPS = "groups.csv"
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_PARTS = ("train", "validation", "test")
_NAMED = 3


def read_groups(
    table: Path, folder: Path, items: Sequence[Path]
) -> tuple[npt.NDArray[np.int64], int]:
    """Return the group of each picture, and how many rows were for no picture of the folder.

    Args:
        table: With the columns ``file`` and ``group``; files relative to ``folder``.
        folder: What the paths start from.
        items: The pictures.

    Returns:
        int64 ``(samples,)``: pictures that share a number must not be in two parts.

    Raises:
        DataError: The table cannot be read, names a file twice with different groups or a file that
            is not there, or lacks a picture; the message counts them and names the first.
    """
    source = str(table)
    rows = _rows(table, ("file", "group"))
    given: dict[str, str] = {}
    for line, row in rows:
        name = _plain(row["file"])
        if not row["group"].strip():
            raise DataError(source=source, reason=f"line {line} has no group; give it one")
        if given.setdefault(name, row["group"].strip()) != row["group"].strip():
            reason = f"the file '{row['file']}' has two groups; one was expected; remove a row"
            raise DataError(source=source, reason=reason)
    names = [item.relative_to(folder).as_posix() for item in items]
    absent = [name for name in given if not (folder / name).is_file()]
    if absent:
        raise _listed(source, absent, len(given), "of its files are not in the folder",
                      "remove their rows or restore them")  # fmt: skip
    missing = [name for name in names if name not in given]
    if missing:
        raise _listed(source, missing, len(names), "pictures have no group",
                      "add a row for each; a picture of no group gets one of its own")  # fmt: skip
    groups = sorted(set(given.values()))
    numbers = {group: number for number, group in enumerate(groups)}
    found = np.array([numbers[given[name]] for name in names], dtype=np.int64)
    return found, len(set(given) - set(names))


def load_image_manifest(table: Path) -> ImageDataset:
    """Open pictures that a table lists.

    Args:
        table: A ``.csv`` or ``.tsv`` file with the columns ``file`` and ``label``, and perhaps
            ``split`` (train, validation, test; empty lets edgeml choose) and ``group``.

    Returns:
        The data set; its items are paths, its classes are in alphabetical order.

    Raises:
        DataError: The table cannot be read, has fewer than two classes, names a file twice or one
            that is not there, or has an unknown split.
    """
    source = str(table)
    rows = _rows(table, ("file", "label"))
    names = [_plain(row["file"]) for _, row in rows]
    labels = sorted({row["label"].strip() for _, row in rows})
    _check_labels(source, labels)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _listed(source, twice, len(names), "files are named twice", "keep one row each")
    items = [table.parent / name for name in names]
    absent = [name for name, item in zip(names, items, strict=True) if not item.is_file()]
    if absent:
        raise _listed(source, absent, len(names), "files do not exist",
                      "paths start from the table's folder; mend or remove them")  # fmt: skip
    digest = hashlib.sha256()
    hashes = np.empty(len(items), dtype=np.uint64)
    for index, (_, row) in enumerate(rows):
        contents = sha256_of(items[index])
        hashes[index] = int(contents[:16], 16)
        digest.update(f"{names[index]}\0{row['label'].strip()}\0{contents}".encode())
    parts = _parts(source, rows)
    groups = [row["group"].strip() for _, row in rows] if "group" in rows[0][1] else None
    return ImageDataset(
        name=table.stem,
        labels=tuple(labels),
        items=items,
        targets=np.array([labels.index(row["label"].strip()) for _, row in rows], dtype=np.int64),
        fingerprint=digest.hexdigest(),
        source={"kind": "manifest", "path": table.name},
        fixed_test=parts.get("test"),
        fixed_validation=parts.get("validation"),
        hashes=hashes,
        groups=None if groups is None else _numbered(groups),
    )


def _parts(
    source: str, rows: Sequence[tuple[int, dict[str, str]]]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return which samples the table puts into which part, where it says so."""
    chosen: dict[str, list[int]] = {name: [] for name in _PARTS}
    for index, (line, row) in enumerate(rows):
        part = row.get("split", "").strip().lower()
        part = {"val": "validation", "valid": "validation", "dev": "validation"}.get(part, part)
        if part and part not in chosen:
            reason = f"line {line} has the split '{part}'; {', '.join(_PARTS)} or none was expected"
            raise DataError(source=source, reason=reason)
        if part:
            chosen[part].append(index)
    return {name: np.array(found, dtype=np.int64) for name, found in chosen.items() if found}


def _numbered(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Number groups; a picture without one gets its own."""
    numbers: dict[str, int] = {}
    keys = [group or f"\0{index}" for index, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _check_labels(source: str, labels: Sequence[str]) -> None:
    if len(labels) < 2:
        reason = f"a classifier needs at least two classes; found {', '.join(labels) or 'none'}"
        raise DataError(source=source, reason=reason)
    if not all(label and label.isprintable() for label in labels):
        raise DataError(source=source, reason="a label is empty or not printable; name it")


def _rows(table: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table by column, each with its line."""
    source = str(table)
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as exc:
        raise DataError(source=source, reason=f"it cannot be read as UTF-8 ({exc})") from exc
    rows = tab_rows(text) if table.suffix.lower() == ".tsv" else comma_rows(source, text)
    if not rows:
        raise DataError(source=source, reason=f"it is empty; {', '.join(needed)} were expected")
    header = [name.strip().lower() for name in rows[0][1]]
    lacking = [name for name in needed if name not in header]
    if lacking or len(rows) < 2:
        reason = (
            f"its columns are {', '.join(header)}, with {len(rows) - 1} rows; {', '.join(needed)} "
            "and at least one row were expected; name the columns in the first line"
        )
        raise DataError(source=source, reason=reason)
    for line, row in rows[1:]:
        if len(row) != len(header):
            reason = f"line {line} has {len(row)} fields; {len(header)} were expected"
            raise DataError(source=source, reason=reason)
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]


def _plain(name: str) -> str:
    return Path(name.strip().replace("\\", "/")).as_posix()


def _listed(source: str, names: Sequence[str], total: int, what: str, advice: str) -> DataError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    reason = f"{len(names)} of {total} {what}: {', '.join(names[:_NAMED])}{more}; {advice}"
    return DataError(source=source, reason=reason)
