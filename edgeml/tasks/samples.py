"""Prepared inputs of many samples, and how they go into feeds.

Pictures are one array; texts have lengths of their own. What runs a model over a split knows
neither: it asks for groups that run well together, and for the feed of any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import Tensors
from edgeml.tasks.text import EncodedText, TextTask

_BATCH = 32


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
        first, count = indices[0], len(indices)
        if list(indices) == list(range(first, first + count)):
            return {self.name: self.array[first : first + count]}  # a view: nothing is copied
        return {self.name: self.array[np.asarray(indices)]}

    def groups(self) -> list[list[int]]:
        """Return runs of thirty-two."""
        return [
            list(range(start, min(start + _BATCH, len(self))))
            for start in range(0, len(self), _BATCH)
        ]

    def typical(self) -> int:
        """Return 0: all cost the same."""
        return 0

    def first(self, count: int) -> ArraySamples:
        """Return the first few samples."""
        return ArraySamples(self.name, self.array[:count])


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
        return TextSamples(self.task, self.texts[:count], padded_to=self.padded_to)

    def padded(self, length: int) -> TextSamples:
        """Return the same texts, every feed padded to ``length`` tokens."""
        return TextSamples(self.task, self.texts, padded_to=length)
