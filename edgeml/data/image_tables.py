"""Tables beside pictures: ``groups.csv`` (``file,group``) and manifests (``file,label``).

Paths are absolute, or relative to the table's folder. A file that a table names and that is not
there is an error, never left out; so is a picture without a group where groups are given.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.class_names import is_plain
from edgeml.data.dataset import ImageDataset
from edgeml.data.delimited import comma_rows, tab_rows
from edgeml.data.image_parts import PARTS, part_named
from edgeml.data.picture_files import contents_hash, is_picture
from edgeml.errors import DataError

GROUPS = "groups.csv"
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_COLUMNS = ("file", "label", "split", "group")
_NAMED = 3


def read_groups(
    table: Path, folder: Path, items: Sequence[Path]
) -> tuple[npt.NDArray[np.int64], int]:
    """Return the group of each picture, and how many rows were for no picture of the folder.

    Args:
        table: With the columns ``file`` and ``group``; files relative to ``folder``, or absolute.
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
        name = _relative(row["file"], folder)
        if not row["group"].strip():
            raise DataError(source=source, reason=f"line {line} has no group; give it one")
        if given.setdefault(name, row["group"].strip()) != row["group"].strip():
            reason = f"the file '{row['file']}' has two groups; one was expected; remove a row"
            raise DataError(source=source, reason=reason)
    names = [item.relative_to(folder).as_posix() for item in items]
    known = set(names)
    absent = [name for name in given if name not in known and not _is_there(folder / name)]
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
    return found, len(given.keys() - known)


def load_image_manifest(table: Path) -> ImageDataset:
    """Open pictures that a table lists.

    Args:
        table: A ``.csv`` or ``.tsv`` file with the columns ``file`` and ``label``, and perhaps
            ``split`` (train, validation, test; empty lets edgeml choose) and ``group``. Rows marked
            train are trained on; a part that no row names is drawn from the rows without a mark,
            or from the training rows where every row has one.

    Returns:
        The data set; its items are paths, its classes are in alphabetical order.

    Raises:
        DataError: The table cannot be read, has fewer than two classes, names a file twice or one
            that is not there, or has an unknown split.
    """
    source = str(table)
    rows = _rows(table, ("file", "label"))
    names = [_plain(row["file"]) for _, row in rows]
    given = [row["label"].strip() for _, row in rows]
    labels = sorted(set(given))
    _check_labels(source, labels)
    items = [table.parent / name for name in names]
    places = [os.path.normpath(item.absolute()) for item in items]
    _check_files(source, names, items, places)
    digest = hashlib.sha256()
    hashes = np.empty(len(items), dtype=np.uint64)
    for index, item in enumerate(items):
        contents = contents_hash(item, names[index])
        hashes[index] = int(contents[:16], 16)
        digest.update(f"{names[index]}\0{given[index]}\0{contents}".encode())
    parts = _parts(source, rows)
    marked = sum(map(len, parts.values()))
    groups = [row["group"].strip() for _, row in rows] if "group" in rows[0][1] else None
    numbers = {label: number for number, label in enumerate(labels)}
    return ImageDataset(
        name=table.stem,
        labels=tuple(labels),
        items=items,
        targets=np.array([numbers[label] for label in given], dtype=np.int64),
        fingerprint=digest.hexdigest(),
        source={"kind": "manifest", "path": table.name},
        fixed_test=parts.get("test"),
        fixed_validation=parts.get("validation"),
        # Where every row is marked, what is missing can come from the training rows alone.
        fixed_train=parts.get("train") if marked < len(rows) else None,
        hashes=hashes,
        groups=None if groups is None else _numbered(groups),
        odd=_unlisted(places),
    )


def _check_files(
    source: str, names: Sequence[str], items: Sequence[Path], places: Sequence[str]
) -> None:
    """Refuse files that are named twice, by whatever path, or that are not there."""
    counts = Counter(places)
    if len(counts) < len(places):
        twice = sorted({n for n, place in zip(names, places, strict=True) if counts[place] > 1})
        raise _listed(source, twice, len(names), "files are named twice", "keep one row each")
    absent = [name for name, item in zip(names, items, strict=True) if not _is_there(item)]
    if absent:
        raise _listed(source, absent, len(names), "files do not exist",
                      "paths start from the table's folder; mend or remove them")  # fmt: skip


def _unlisted(places: Sequence[str]) -> dict[str, Any]:
    """Count the pictures beside the listed ones that the table does not name."""
    listed, found = set(places), []
    for folder in sorted({Path(place).parent for place in places}):
        try:
            beside = sorted(folder.iterdir())
        except OSError:  # a folder may be read from without being listed
            continue
        found += [
            path for path in beside
            if is_picture(path) and not path.name.startswith(".") and str(path) not in listed
        ]  # fmt: skip
    if not found:
        return {}
    return {
        "unlisted_pictures": len(found),
        "first_unlisted": [path.name for path in found[:_NAMED]],
    }


def _parts(
    source: str, rows: Sequence[tuple[int, dict[str, str]]]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return which samples the table puts into which part, where it says so."""
    chosen: dict[str, list[int]] = {name: [] for name in PARTS}
    for index, (line, row) in enumerate(rows):
        word = row.get("split", "").strip()
        part = part_named(word)
        if word and part is None:
            reason = f"line {line} has the split '{word}'; {', '.join(PARTS)} or none was expected"
            raise DataError(source=source, reason=reason)
        if part is not None:
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
    if not all(label and is_plain(label) for label in labels):
        reason = "a label is empty or has a control character; one line of text was expected"
        raise DataError(source=source, reason=f"{reason}; name it")


def _rows(table: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table by column, each with its line."""
    source = str(table)
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as exc:
        reason = (
            f"it cannot be read ({exc.strerror or exc}); a table with the columns "
            f"{', '.join(needed)} was expected; check its path"
        )
        raise DataError(source=source, reason=reason) from exc
    except UnicodeError as exc:
        reason = f"it cannot be read as UTF-8 ({exc}); text in UTF-8 was expected; save it as such"
        raise DataError(source=source, reason=reason) from exc
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
    doubled = [name for name in _COLUMNS if header.count(name) > 1]
    if doubled:
        reason = (
            f"its first line names the column '{doubled[0]}' twice; one was expected; rename or "
            "remove the other"
        )
        raise DataError(source=source, reason=reason)
    for line, row in rows[1:]:
        if len(row) != len(header):
            reason = f"line {line} has {len(row)} fields; {len(header)} were expected"
            raise DataError(source=source, reason=reason)
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]


def _plain(name: str) -> str:
    return Path(name.strip().replace("\\", "/")).as_posix()


def _relative(name: str, folder: Path) -> str:
    """Return a path as it is below the folder; one outside of it as it is."""
    plain = os.path.normpath(_plain(name))
    for root in (os.path.normpath(folder.absolute()), folder.resolve()):
        if Path(plain).is_relative_to(root):
            return Path(plain).relative_to(root).as_posix()
    return plain


def _is_there(path: Path) -> bool:
    """Return whether a path is a file's; one in a folder that is closed to us may be."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except (OSError, ValueError):  # a loop of links, too long a name, a zero byte
        return False


def _listed(source: str, names: Sequence[str], total: int, what: str, advice: str) -> DataError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    reason = f"{len(names)} of {total} {what}: {', '.join(names[:_NAMED])}{more}; {advice}"
    return DataError(source=source, reason=reason)
