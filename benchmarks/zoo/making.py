"""A member's folder: files appear whole, and the one that describes the others comes last."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.zoo.built import LABELS, Built
from benchmarks.zoo.members import Member
from edgeml.core.files import sha256_of, write_json

MODEL, DATA, ABOUT = "model.onnx", "data.npz", "member.json"
_PACKED_FROM_BYTES = 300_000_000


@contextlib.contextmanager
def staged_file(place: Path) -> Iterator[Path]:
    """Yield a path beside ``place`` that becomes ``place`` if the block succeeds."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{os.getpid()}-{place.name}")
    try:
        yield part
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def read_or_none(path: Path) -> dict[str, Any] | None:
    """Return a JSON file of ours, or None where it was not made yet."""
    return json.loads(path.read_bytes()) if path.is_file() else None


def write_whole(path: Path, value: Any) -> None:
    """Write a JSON file so that it is whole or absent."""
    with staged_file(path) as part:
        write_json(part, value)


def make_member(member: Member, folder: Path) -> dict[str, Any]:
    """Build a member unless it is there, and return what its ``member.json`` says.

    Args:
        member: Which one.
        folder: Its folder.
    """
    found = read_or_none(folder / ABOUT)
    if found is not None:
        return found
    started = time.monotonic()
    built = member.build()
    with staged_file(folder / MODEL) as part:
        onnx.save(built.model, str(part))
    with staged_file(folder / DATA) as part, part.open("wb") as file:
        _save_arrays(file, built)
    about = {
        "name": member.name,
        "about": member.about,
        **_facts(built, folder),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_whole(folder / ABOUT, about)
    return about


def _save_arrays(file: Any, built: Built) -> None:
    arrays = dict(built.inputs)
    if built.labels is not None:
        arrays[LABELS] = built.labels
    large = sum(array.nbytes for array in arrays.values()) > _PACKED_FROM_BYTES
    (np.savez_compressed if large else np.savez)(file, **arrays)


def _facts(built: Built, folder: Path) -> dict[str, Any]:
    parameters = sum(int(np.prod(row.dims)) for row in built.model.graph.initializer)
    count = len(next(iter(built.inputs.values())))
    return {
        **built.facts,
        "parameters": parameters,
        "samples": count,
        "labelled": built.labels is not None,
        "accuracy": _accuracy(built, folder / MODEL),
        "model_bytes": (folder / MODEL).stat().st_size,
        "data_bytes": (folder / DATA).stat().st_size,
        "model_sha256": sha256_of(folder / MODEL),
        "data_sha256": sha256_of(folder / DATA),
    }


def _accuracy(built: Built, model: Path) -> float | None:
    """Return the written graph's own accuracy on all samples; None without labels."""
    if built.labels is None:
        return None
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    right, step = 0, 16
    for start in range(0, len(built.labels), step):
        feed = {name: array[start : start + step] for name, array in built.inputs.items()}
        (logits,) = session.run(None, feed)
        right += int((logits.argmax(axis=1) == built.labels[start : start + step]).sum())
    return right / len(built.labels)
