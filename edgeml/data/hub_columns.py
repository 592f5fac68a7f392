"""The two columns of a Parquet file that matter: encoded pictures, and one label for each.

Pictures are bytes, plain or in a structure with ``bytes``; files that name pictures elsewhere by
path are refused. Labels are words or numbers; several labels for a picture are refused.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.class_names import is_plain
from edgeml.data.hub_layout import named_classes
from edgeml.errors import DataError

_PICTURES = ("image", "img")
_ROWS_AT_ONCE = 1024
# What pyarrow raises, and what strange metadata leads to.
_UNUSABLE = (AttributeError, KeyError, NotImplementedError, OSError, TypeError, ValueError)
_LABELS = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What one Parquet file holds.

    Attributes:
        pictures: Encoded pictures.
        labels: Words or whole numbers, one kind in all files; None where there is none.
        names: Names of the classes in index order; empty where nobody gives them.
    """

    pictures: Sequence[bytes]
    labels: Sequence[str | int | None]
    names: tuple[str, ...]

    @property
    def unlabelled(self) -> int:
        """The number of pictures without a label."""
        return sum(label is None for label in self.labels)


def read_columns(file: Path, *, source: str, classes: Mapping[str, tuple[str, ...]]) -> Columns:
    """Read the pictures and labels of a Parquet file.

    Args:
        file: The file.
        source: What a message calls the data.
        classes: Names of classes by column, for files that do not bring their own.

    Raises:
        DataError: It cannot be read, has no such columns, pictures by path only, or several labels
            for a picture.
    """
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        opened = parquet.ParquetFile(file)
        schema = opened.schema_arrow
        features = _features(schema)
        picture, label = _picture_column(schema), _label_column(schema, features)
        cells: list[Any] = []
        labels: list[str | int | None] = []
        # In batches: one array of a structure cannot hold more than 2 GiB of bytes.
        for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[picture, label]):
            cells += batch.column(picture).to_pylist()
            labels += _plain_labels(batch.column(label))
        pictures = _bytes_of(cells)
        feature = features.get(label)
        own = named_classes(feature.get("names")) if isinstance(feature, dict) else ()
    except _UNUSABLE as exc:
        reason = (
            f"{file.name} cannot be used ({exc}); a column of encoded pictures and one of "
            f"{', '.join(_LABELS)} were expected; save the pictures as a folder class/xxx.png"
        )
        raise DataError(source=source, reason=" ".join(reason.split())) from exc
    return Columns(pictures=pictures, labels=labels, names=own or classes.get(label, ()))


def number_classes(
    files: Sequence[Columns], source: str
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the classes of all files, and the class of each picture.

    Args:
        files: All of them, in order, with a label for each picture.
        source: What a message calls the data.

    Returns:
        Names in index order: as the data gives them, else the words or numbers that are there,
        sorted; and int64 ``(samples,)``, indices into them.

    Raises:
        DataError: The files contradict each other, a number has no name, or there are fewer than
            two classes, or one without a name that can be a label.
    """
    given = {columns.names for columns in files if columns.names}
    labels = [label for columns in files for label in columns.labels]
    found: list[Any] = list(set(labels))
    kinds = {type(label) for label in found}
    if len(given) > 1 or len(kinds) > 1:
        what = "name the classes differently" if len(given) > 1 else "have words and numbers"
        raise DataError(source=source, reason=f"its files {what} as labels; all alike were "
                        "expected; save them anew from one table")  # fmt: skip
    names = given.pop() if given else ()
    numbers: dict[Any, int] = {label: number for number, label in enumerate(sorted(found))}
    if names:
        by_name = kinds == {str}
        numbers = {name if by_name else number: number for number, name in enumerate(names)}
    foreign = sorted(set(found) - set(numbers))
    if foreign:
        raise DataError(source=source, reason=f"the label {foreign[0]!r} is none of its "
                        f"{len(names)} classes; mend the label or the names")  # fmt: skip
    told = names or tuple(str(label) for label in numbers)
    if len(told) < 2:
        reason = (
            f"a classifier needs at least two classes; found {', '.join(map(repr, told))}; add "
            "pictures of another class"
        )
        raise DataError(source=source, reason=reason)
    unfit = [name for name in told if not name or not is_plain(name)]
    if unfit:
        reason = (
            f"the class {unfit[0]!r} has a name that cannot be written into a label; Unicode "
            "without control characters was expected; rename it"
        )
        raise DataError(source=source, reason=reason)
    return told, np.array([numbers[label] for label in labels], dtype=np.int64)


def _features(schema: Any) -> dict[str, Any]:
    """Return what the writer noted about the columns."""
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = noted.get("info", {}).get("features", {}) if isinstance(noted, dict) else {}
    return features if isinstance(features, dict) else {}


def _picture_column(schema: Any) -> str:
    """Return the column of pictures: by its name where several could be it."""
    fitting = [name for name in schema.names if _may_hold_pictures(schema.field(name).type)]
    named = [name for name in _PICTURES if name in fitting]
    if not fitting:
        raise ValueError(f"its columns are {', '.join(schema.names)}")
    return str((named or fitting)[0])


def _may_hold_pictures(kind: Any) -> bool:
    types: Any = importlib.import_module("pyarrow").types
    if types.is_struct(kind):
        return "bytes" in {kind.field(index).name for index in range(kind.num_fields)}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, features: Mapping[str, Any]) -> str:
    """Return the column of labels: a usual name, else the only one that is noted as classes."""
    usual = [name for name in _LABELS if name in schema.names]
    noted = [
        name for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    ]  # fmt: skip
    if usual or len(noted) == 1:
        return str((usual or noted)[0])
    raise ValueError(f"its columns are {', '.join(schema.names)}")


def _bytes_of(cells: Sequence[Any]) -> list[bytes]:
    pictures: list[Any] = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
    bare = [index for index, picture in enumerate(pictures) if not isinstance(picture, bytes)]
    if bare:
        cell = cells[bare[0]]
        path = cell.get("path") if isinstance(cell, dict) else None
        only = f", only the path {path!r}" if path else ""
        raise ValueError(f"{len(bare)} of {len(cells)} pictures have no bytes{only}")
    return pictures


def _plain_labels(column: Any) -> list[str | int | None]:
    """Return labels as words or numbers; null and negative numbers are none."""
    types: Any = importlib.import_module("pyarrow").types
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_nested(kind):
        raise ValueError("a picture has a list of labels, and one was expected")
    labels: list[Any] = column.to_pylist()
    if types.is_boolean(kind):
        return [None if label is None else str(label) for label in labels]
    if types.is_floating(kind):
        labels = [None if label is None or label != label else label for label in labels]
        broken = [label for label in labels if label is not None and not label.is_integer()]
        if broken:
            raise ValueError(f"a label is {broken[0]}, and a word or a whole number was expected")
        labels = [None if label is None else int(label) for label in labels]
    if types.is_floating(kind) or types.is_integer(kind):
        return [None if label is None or label < 0 else int(label) for label in labels]
    if not all(label is None or isinstance(label, str) for label in labels):
        raise ValueError(f"its labels are {kind}, and words or whole numbers were expected")
    return labels
