"""Which sentences are answered when: the same block for everybody within a round."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np


def blocks(num_texts: int, *, size: int, count: int, seed: int) -> list[list[int]]:
    """Cut a stream of permutations of all sentences into blocks.

    So every sentence is seen once before any is seen twice, whatever the sizes.

    Args:
        num_texts: Sentences to draw from.
        size: Sentences of a block.
        count: Blocks.
        seed: Seed of the permutations.

    Returns:
        Indices of sentences, ``count`` lists of ``size``.
    """
    if num_texts < 1:
        raise ValueError("at least one sentence was expected")
    rng = np.random.default_rng(seed)

    def stream() -> Iterator[int]:
        while True:
            yield from rng.permutation(num_texts).tolist()

    indices = stream()
    return [list(itertools.islice(indices, size)) for _ in range(count)]


class Orders:
    """The order of the peers, drawn anew for each round.

    Args:
        seed: Seed of the orders.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 1])

    def draw(self, names: Sequence[str]) -> list[str]:
        """Return the names in a new order."""
        return [names[index] for index in self._rng.permutation(len(names))]
