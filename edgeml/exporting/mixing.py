"""Mixed precision: which blocks to leave in float, by accuracy lost for each millisecond saved.

Each block of products is quantized alone and its error measured; what it saves is its share of the
float model's time. A block with much error and little gain goes back to float first (greedy on the
ratio, as for a knapsack).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Shares of the whole error that mixed candidates may keep: the fastest first.
_KEPT_ERROR = (0.75, 0.5, 0.25)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of nodes, and what quantizing it alone costs and saves.

    Attributes:
        nodes: Names of its products.
        error: Mean divergence, or relative error, with only this block quantized.
        saved_ms: Milliseconds that quantizing it saves, estimated.
    """

    nodes: tuple[str, ...]
    error: float
    saved_ms: float

    @property
    def price(self) -> float:
        """Error for each millisecond saved."""
        return self.error / max(self.saved_ms, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return the block as JSON values."""
        return {**asdict(self), "error_per_ms": self.price}


def split_into_blocks(names: Sequence[str], *, most: int) -> list[tuple[str, ...]]:
    """Split names, in the graph's order, into at most so many blocks of neighbours."""
    count = min(most, len(names))
    edges = [round(index * len(names) / count) for index in range(count + 1)] if count else []
    return [tuple(names[a:b]) for a, b in itertools.pairwise(edges)]


def mix(blocks: Sequence[Block]) -> list[tuple[str, ...]]:
    """Return sets of nodes to leave in float, from few to many, without repetition.

    Each takes the dearest blocks until what remains keeps a share of the whole error. The set of
    all blocks, which would be the float model, is never returned.
    """
    total = sum(block.error for block in blocks)
    dearest = sorted(blocks, key=lambda block: block.price, reverse=True)
    made: list[tuple[str, ...]] = []
    for share in _KEPT_ERROR:
        left, kept = total, []
        for block in dearest:
            if left <= share * total:
                break
            kept.append(block)
            left -= block.error
        chosen = {id(block) for block in kept}
        names = tuple(name for block in blocks if id(block) in chosen for name in block.nodes)
        if names and len(kept) < len(blocks) and names not in made:
            made.append(names)
    return made
