"""What an index is made of, as data: chosen by measurement, stored beside it, built from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from edgeml.errors import InputError

_FLAT_UP_TO = 100_000
# A few hundred results of fewer vectors reach further down, where packed codes order worse.
_FEW_CANDIDATES_FROM = 500_000


class IndexKind(StrEnum):
    """How candidates are found."""

    FLAT = "flat"
    """Every vector is compared: exact."""
    IVF = "ivf"
    """Only the lists nearest to the query are compared."""
    HNSW = "hnsw"
    """A graph of neighbours is walked. Items cannot be taken out of it: they are passed over."""


class VectorCode(StrEnum):
    """How a vector is held."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    """One byte a dimension."""
    PQ4 = "pq4"
    """Four bits for two dimensions, compared in registers (FAISS's fast scan); searching only."""


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """Everything that decides an index's speed, size and recall.

    Attributes:
        kind: How candidates are found.
        codes: How the compared vectors are held (IVF only).
        stored: How the vectors are kept for exact scores, filters and re-coding.
        num_lists: Lists of an IVF.
        num_probes: Lists read for a query without a filter.
        candidates_per_result: Found by codes for each result asked for, then scored again
            from the stored vectors; 1 does not score again.
        num_links: Links of a node of an HNSW graph.
        breadth: Nodes kept while walking an HNSW graph, at least the results asked for.
        exact_below: With at most this many items left by a filter, all of them are compared.
        seed: Of the training of lists and codes.
    """

    kind: IndexKind
    codes: VectorCode = VectorCode.FLOAT32
    stored: VectorCode = VectorCode.FLOAT32
    num_lists: int = 0
    num_probes: int = 0
    candidates_per_result: float = 1.0
    num_links: int = 0
    breadth: int = 0
    exact_below: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stored is VectorCode.PQ4:
            raise InputError("vectors cannot be stored as pq4 only; float32 or uint8 was expected")
        if self.kind is IndexKind.IVF and not 1 <= self.num_probes <= self.num_lists:
            raise InputError(
                f"{self.num_probes} probes of {self.num_lists} lists; 1 to all were expected"
            )
        if self.kind is IndexKind.HNSW and (self.num_links < 2 or self.breadth < 1):
            raise InputError(
                f"{self.num_links} links and breadth {self.breadth}; at least 2 and 1 were expected"
            )
        if self.candidates_per_result < 1:
            raise InputError(
                f"{self.candidates_per_result} candidates a result; at least 1 was expected"
            )

    @property
    def name(self) -> str:
        """A short name for tables, for instance ``ivf2048-pq4-probes96-x3``."""
        if self.kind is IndexKind.FLAT:
            return f"flat-{self.stored}"
        if self.kind is IndexKind.HNSW:
            return f"hnsw{self.num_links}-breadth{self.breadth}"
        again = f"-x{self.candidates_per_result:g}" if self.candidates_per_result > 1 else ""
        return f"ivf{self.num_lists}-{self.codes}-probes{self.num_probes}{again}"

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> IndexSpec:
        """Read what ``to_json`` wrote.

        Raises:
            InputError: A key is unknown or a value does not fit.
        """
        try:
            kinds = {name: VectorCode(values[name]) for name in ("codes", "stored")}
            return cls(**{**values, **kinds, "kind": IndexKind(values["kind"])})
        except (KeyError, TypeError, ValueError) as exc:
            raise InputError(
                f"this is not an index specification of this version: {exc}; build the index again"
            ) from exc


def spec_for(num_vectors: int, dimension: int) -> IndexSpec:
    """Return a good specification by size alone, where nothing was measured.

    Up to 100,000 vectors are compared exhaustively, in about a millisecond. Above, the tables in
    docs/results/recommender-index.md decide: lists, codes of half a byte a dimension, and exact
    scores for a few candidates a result.

    Args:
        num_vectors: Vectors to index.
        dimension: Their dimension; codes of two dimensions each need an even one.
    """
    if num_vectors <= _FLAT_UP_TO:
        return IndexSpec(kind=IndexKind.FLAT)
    num_lists = num_lists_for(num_vectors)
    packed = dimension % 2 == 0
    candidates = 3.0 if num_vectors >= _FEW_CANDIDATES_FROM else 5.0
    return IndexSpec(
        kind=IndexKind.IVF,
        codes=VectorCode.PQ4 if packed else VectorCode.UINT8,
        stored=VectorCode.UINT8,
        num_lists=num_lists,
        num_probes=max(16, num_lists // 20),
        candidates_per_result=candidates if packed else 1.0,
    )


def num_lists_for(num_vectors: int) -> int:
    """Return twice the square root of a number of vectors, as a power of two, at least 16."""
    return int(2 ** max(4, round(math.log2(2 * max(num_vectors, 1) ** 0.5))))
