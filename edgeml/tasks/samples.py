"""Prepared inputs of many samples, and how they go into feeds.

Pictures are one array; texts have lengths of their own. What runs a model over a split knows
neither: it asks for groups that run well together, and for the feed of any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.tasks.text import EncodedText, TextTask

_BATCH = 32
# Activations are many times a picture's size: a feed of thirty-two large ones takes a gigabyte, and
# is no faster for each than a feed of a few.
_FEED_BYTES = 4 * 2**20


class Samples(Protocol):
    """Prepared inputs, each with a position."""

    def __len__(self) -> int: ...

    def feed(self, indices: Sequence[int]) -> Tensors:
        """Return the tensors of some samples, batch first, in this order."""
        ...

    def groups(self) -> list[list[int]]:
        """Return positions grouped into feeds that run well; each once."""
        ...

    def typical(self) -> int:
        """Return the position of a sample of middling cost, for latencies."""
        ...

    def first(self, count: int) -> Samples:
        """Return the first few samples."""
        ...

    def part(self, start: int, stop: int) -> Samples:
        """Return the samples from one position to before another."""
        ...


class ArraySamples:
    """Samples of one size, in one array.

    Args:
        name: The model's input.
        array: Batch first.
    """

    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        self.name = name
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def feed(self, indices: Sequence[int]) -> Tensors:
        """Return some rows of the array."""
        return _rows({self.name: self.array}, indices)

    def groups(self) -> list[list[int]]:
        """Return runs of thirty-two, or of fewer large samples."""
        return _runs(len(self), _batch_of([self.array]))

    def typical(self) -> int:
        """Return 0: all cost the same."""
        return 0

    def first(self, count: int) -> ArraySamples:
        """Return the first few samples."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> ArraySamples:
        """Return the samples from one position to before another."""
        return ArraySamples(self.name, self.array[start:stop])


class TensorSamples:
    """Samples of one size each, in one array an input.

    Args:
        inputs: Input name to array, the first axis the samples.
        max_batch: Most samples of one feed; None for thirty-two.
        rows: Which samples of the arrays, in which order, int64 ``(samples,)``; None for all. A
            part of a large set is not copied for it.

    Raises:
        InputError: There is no input, two have different numbers of samples, or ``max_batch`` is
            below 1.
    """

    def __init__(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        max_batch: int | None = None,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        counts = {name: len(array) for name, array in inputs.items()}
        if len(set(counts.values())) != 1:
            found = ", ".join(f"'{name}' {count}" for name, count in counts.items()) or "no input"
            raise InputError(
                f"the inputs have different numbers of samples ({found}); one number was expected; "
                "check the arrays"
            )
        if max_batch is not None and max_batch < 1:
            raise InputError(f"max_batch is {max_batch}; at least 1 was expected")
        self.inputs = dict(inputs)
        self.max_batch = max_batch
        (count,) = set(counts.values())
        self.rows = np.arange(count) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def feed(self, indices: Sequence[int]) -> Tensors:
        """Return some samples of every input."""
        return _rows(self.inputs, self.rows[np.asarray(indices)].tolist())

    def groups(self) -> list[list[int]]:
        """Return runs of ``max_batch``, of thirty-two, or of fewer large samples."""
        return _runs(len(self), self.max_batch or _batch_of(list(self.inputs.values())))

    def typical(self) -> int:
        """Return 0: all cost the same."""
        return 0

    def first(self, count: int) -> TensorSamples:
        """Return the first few samples."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> TensorSamples:
        """Return the samples from one position to before another."""
        return TensorSamples(self.inputs, max_batch=self.max_batch, rows=self.rows[start:stop])


class TextSamples:
    """Texts as ids.

    Args:
        task: The contract.
        texts: From its ``prepare``.
        padded_to: Pad every feed to so many tokens; None pads to its longest.
    """

    def __init__(
        self, task: TextTask, texts: Sequence[EncodedText], *, padded_to: int | None = None
    ) -> None:
        self.task = task
        self.texts = texts
        self.padded_to = padded_to

    def __len__(self) -> int:
        return len(self.texts)

    def feed(self, indices: Sequence[int]) -> Tensors:
        """Return some texts, padded as little as may be."""
        texts = [self.texts[index] for index in indices]
        if self.padded_to is None:
            return self.task.collate(texts)
        return self.task.pad(texts, length=self.padded_to)

    def groups(self) -> list[list[int]]:
        """Return texts of like length together."""
        return self.task.batches(self.texts)

    def typical(self) -> int:
        """Return the position of a text of median length."""
        order = sorted(range(len(self.texts)), key=lambda index: len(self.texts[index].ids))
        return order[len(order) // 2]

    def first(self, count: int) -> TextSamples:
        """Return the first few samples."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> TextSamples:
        """Return the samples from one position to before another."""
        return TextSamples(self.task, self.texts[start:stop], padded_to=self.padded_to)

    def padded(self, length: int) -> TextSamples:
        """Return the same texts, every feed padded to ``length`` tokens."""
        return TextSamples(self.task, self.texts, padded_to=length)


def _rows(inputs: Mapping[str, npt.NDArray[Any]], indices: Sequence[int]) -> Tensors:
    """Return some rows of every array, in this order."""
    first, count = indices[0], len(indices)
    if list(indices) == list(range(first, first + count)):
        # Views: nothing is copied.
        return {name: array[first : first + count] for name, array in inputs.items()}
    rows = np.asarray(indices)
    return {name: np.asarray(array[rows]) for name, array in inputs.items()}


def _runs(count: int, size: int) -> list[list[int]]:
    """Return positions in runs of ``size``; the last one may be shorter."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def _batch_of(arrays: Sequence[npt.NDArray[Any]]) -> int:
    """Return how many samples one feed takes."""
    size = sum(array.nbytes // max(1, len(array)) for array in arrays)
    return max(1, min(_BATCH, _FEED_BYTES // max(1, size)))
