"""How raw values become codes. Code 0 is what was missing or not seen in train.

Encoders are fitted on train, written as JSON into the bundle, and give the same codes there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


class Encoder(Protocol):
    """Turns values into codes ``0..size-1``."""

    @property
    def size(self) -> int:
        """Number of codes, 0 included."""
        ...

    def encode(self, values: Iterable[Any]) -> Codes:
        """Return int64 ``(values,)``."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return JSON values with the encoder's ``kind``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Known texts in the order of their codes, from 1.

    Example:
        >>> Vocabulary(values=("red", "blue")).encode(["blue", "green", None]).tolist()
        [2, 0, 0]
    """

    values: tuple[str, ...]

    @classmethod
    def fit(cls, values: Iterable[str | None], *, max_size: int = 100_000) -> Vocabulary:
        """Keep the most frequent values; ties in the order of the alphabet."""
        present = np.asarray([value for value in values if value is not None], dtype=str)
        found, counts = np.unique(present, return_counts=True)
        order = np.lexsort((found, -counts))[:max_size]
        return cls(values=tuple(found[order].tolist()))

    @property
    def size(self) -> int:
        """Number of codes, 0 included."""
        return len(self.values) + 1

    def encode(self, values: Iterable[Any]) -> Codes:
        """Return each value's code; 0 for what is missing or not in the vocabulary."""
        known = {value: code for code, value in enumerate(self.values, start=1)}
        return np.asarray([known.get(value, 0) for value in values], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": "vocabulary", "values": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class Hashing:
    """Texts in a fixed number of buckets, by CRC-32: any value has a code, some share one."""

    buckets: int

    def __post_init__(self) -> None:
        if self.buckets < 1:
            raise ValueError(f"there must be at least one bucket, got {self.buckets}")

    @property
    def size(self) -> int:
        """Number of codes, 0 included."""
        return self.buckets + 1

    def encode(self, values: Iterable[Any]) -> Codes:
        """Return each value's bucket, from 1; 0 for what is missing."""
        return np.asarray(
            [
                0 if value is None else 1 + zlib.crc32(str(value).encode()) % self.buckets
                for value in values
            ],
            dtype=np.int64,
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": "hashing", "buckets": self.buckets}


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Numbers in buckets of about equally many values of train; NaN is code 0.

    Example:
        >>> Quantiles(edges=(0.0, 10.0)).encode([-1, 0, 5, 10, float("nan")]).tolist()
        [1, 2, 2, 3, 0]
    """

    edges: tuple[float, ...]

    @classmethod
    def fit(cls, values: npt.NDArray[np.float64], *, buckets: int = 10) -> Quantiles:
        """Choose the edges; fewer where many values are equal."""
        present = values[np.isfinite(values)]
        if not len(present):
            return cls(edges=())
        edges = np.unique(np.quantile(present, np.linspace(0, 1, buckets + 1)[1:-1]))
        return cls(edges=tuple(float(edge) for edge in edges))

    @property
    def size(self) -> int:
        """Number of codes, 0 included."""
        return len(self.edges) + 2

    def encode(self, values: Iterable[Any]) -> Codes:
        """Return each number's bucket."""
        numbers = np.asarray(list(values), dtype=np.float64)
        codes = np.searchsorted(np.asarray(self.edges), numbers, side="right") + 1
        return np.where(np.isnan(numbers), 0, codes).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": "quantiles", "edges": list(self.edges)}


def encoder_from_json(value: Mapping[str, Any]) -> Encoder:
    """Read what an encoder's ``to_json`` wrote.

    Raises:
        ValueError: There is no such kind.
    """
    kind = value["kind"]
    if kind == "vocabulary":
        return Vocabulary(values=tuple(str(row) for row in value["values"]))
    if kind == "hashing":
        return Hashing(buckets=int(value["buckets"]))
    if kind == "quantiles":
        return Quantiles(edges=tuple(float(edge) for edge in value["edges"]))
    raise ValueError(f"unknown encoder {kind!r}; vocabulary, hashing or quantiles was expected")
