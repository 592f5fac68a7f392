"""What a recipe is given. Standard library and numpy only: it is imported in every environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LABELS = "labels"

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file to make.

    Attributes:
        model: The float32 ONNX file.
        data: The member's ``data.npz``.
        out: An empty folder.
        file: Name of the file to make in it.
        count: Samples to calibrate on, the first of the data.
        transformer: Whether the model is one.
    """

    model: Path
    data: Path
    out: Path
    file: str
    count: int
    transformer: bool

    @property
    def target(self) -> Path:
        """Where the file shall stand."""
        return self.out / self.file

    def feeds(self) -> Iterator[Feed]:
        """Yield the calibration samples one by one, batch axis kept."""
        yield from feeds_of(read_inputs(self.data), range(self.count))


def read_inputs(data: Path) -> Feed:
    """Return the arrays of ``data.npz`` without the labels."""
    with np.load(data) as stored:
        return {name: stored[name] for name in stored.files if name != _LABELS}


def read_labels(data: Path) -> npt.NDArray[np.int64] | None:
    """Return the labels of ``data.npz``, or None."""
    with np.load(data) as stored:
        return stored[_LABELS] if _LABELS in stored.files else None


def feeds_of(inputs: Feed, samples: range) -> Iterator[Feed]:
    """Yield feeds of one sample each."""
    for index in samples:
        yield {name: array[index : index + 1] for name, array in inputs.items()}
