"""Files of texts: ``.tsv`` of text and label without a header, ``.csv`` with one."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import DataError


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """Sentences and their labels as the file names them.

    Attributes:
        texts: The sentences.
        labels: One label a sentence.
    """

    texts: list[str]
    labels: list[str]


def read_labelled(path: Path) -> LabelledTexts:
    """Read ``text<TAB>label`` lines; quotes are characters like any other.

    Raises:
        DataError: The file is missing, or a line is something else.
    """
    rows = []
    contents = _read(path).removesuffix("\n")
    for number, line in enumerate(contents.split("\n") if contents else [], start=1):
        text, tab, label = line.rpartition("\t")
        if not tab:
            raise DataError(source=f"{path.name}, line {number}", reason="text<TAB>label expected")
        rows.append((text, label.strip()))
    if not rows:
        raise DataError(source=path.name, reason="it is empty; text<TAB>label lines were expected")
    return LabelledTexts(texts=[row[0] for row in rows], labels=[row[1] for row in rows])


def read_texts(path: Path) -> list[str]:
    """Read the texts of a file alone: a ``.csv``'s column ``text``, or the lines of a ``.tsv``.

    Raises:
        DataError: The file is missing or has no such column.
    """
    if path.suffix != ".csv":
        return read_labelled(path).texts
    rows = csv.DictReader(io.StringIO(_read(path), newline=""))
    if "text" not in (rows.fieldnames or ()):
        raise DataError(source=path.name, reason="it has no column 'text'; one was expected")
    return [row["text"] for row in rows]


def model_labels(checkpoint: Path, labels: list[str]) -> list[str]:
    """Return a file's labels as the model names them: an index is looked up, a name stays.

    Raises:
        DataError: A label is neither.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    names: dict[str, str] = config["id2label"]
    known = set(names.values())
    named = [label if label in known else names.get(label) for label in labels]
    for label, name in zip(labels, named, strict=True):
        if name is None:
            reason = f"the label {label!r} is none of the model's ({', '.join(names.values())})"
            raise DataError(source="the texts", reason=f"{reason}; an index or a name was expected")
    return [name for name in named if name is not None]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as exc:
        reason = f"it cannot be read ({exc.strerror}); a file of texts was expected"
        raise DataError(source=path.name, reason=reason) from exc
    except UnicodeDecodeError as exc:
        raise DataError(source=path.name, reason="it is not UTF-8") from exc
