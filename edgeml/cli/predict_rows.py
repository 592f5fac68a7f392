"""Answers as rows: of JSON, and of a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.cli.output import show_table
from edgeml.core.predictor import Prediction
from edgeml.errors import EdgemlError

if TYPE_CHECKING:
    from edgeml.core.manifest import Manifest
    from edgeml.data.text_lines import Entry
    from edgeml.workflows.offline import Refusals

_SHOWN_CHARACTERS = 60
_SHOWN_NUMBERS = 4


def is_text(manifest: Manifest) -> bool:
    """Return whether a bundle answers texts."""
    return manifest.task == "text-classification"


def is_tensor(manifest: Manifest) -> bool:
    """Return whether a bundle answers named arrays."""
    return manifest.task == "tensor"


def verdict(refusals: Refusals, total: int, what: str) -> tuple[str | None, int]:
    """Return the error line and the exit code.

    Args:
        refusals: What was refused.
        total: Of how many.
        what: What they are called.
    """
    if not refusals.count:
        return None, 0
    text = f"{refusals.count} of {total} {what} were refused, first: {refusals.first}"
    return text, 2 if refusals.of_input else 1


def row_of(entry: Entry, answer: Prediction | EdgemlError, manifest: Manifest) -> dict[str, Any]:
    """Return an answer as JSON values."""
    refused = isinstance(answer, EdgemlError)
    given = Prediction() if isinstance(answer, EdgemlError) else answer
    row: dict[str, Any] = {
        "input": entry.shown,
        "label": given.label,
        "score": None if refused else given.score,
        "scores": dict(given.scores),
    }
    if is_tensor(manifest):
        found = given.outputs or {}
        values = {name: array.tolist() for name, array in found.items()}
        row["outputs"] = None if refused else values
    if manifest.multi_label:
        row["labels"] = list(given.labels)
    if is_text(manifest):
        row["truncated"] = None if refused else given.truncated
    if not refused:
        row["served_by"] = given.served_by
    row["error"] = str(answer) if refused else None
    return row


def show_rows(rows: Iterable[dict[str, Any]], manifest: Manifest) -> None:
    """Print rows as a table."""
    lines = []
    for row in rows:
        cut = " (cut)" if row.get("truncated") else ""
        name = row["input"] or "-"
        if is_text(manifest):
            name = _short(name)
        # A name may hold bytes that no terminal takes.
        name = name.encode(errors="replace").decode()
        lines.append((name, *_answer(row, manifest), row["error"] or f"{row['served_by']}{cut}"))
    columns = ("outputs",) if is_tensor(manifest) else ("label", "score")
    show_table("predictions", ("input", *columns, "served by"), lines)


def _answer(row: Mapping[str, Any], manifest: Manifest) -> tuple[str, ...]:
    """Return the cells between an input and who answered it."""
    if is_tensor(manifest):
        outputs = row["outputs"] or {}
        texts = (f"{name} {_numbers(np.asarray(value))}" for name, value in outputs.items())
        return (", ".join(texts) or "-",)
    label = ", ".join(row["labels"]) if manifest.multi_label else row["label"]
    return (label or "-", "-" if row["score"] is None else f"{row['score']:.4f}")


def _numbers(array: npt.NDArray[Any]) -> str:
    """Return a shape and the first numbers of an output."""
    first = " ".join(f"{value:.4g}" for value in array.reshape(-1)[:_SHOWN_NUMBERS].tolist())
    more = " …" if array.size > _SHOWN_NUMBERS else ""
    sizes = "x".join(str(size) for size in array.shape)
    return f"{sizes}: {first}{more}" if sizes else first


def _short(text: str) -> str:
    one = " ".join(text[: 4 * _SHOWN_CHARACTERS].split())
    short = len(text) > 4 * _SHOWN_CHARACTERS or len(one) > _SHOWN_CHARACTERS
    return f"{one[:_SHOWN_CHARACTERS]}…" if short else one
