"""Features of users, items and requests as codes and numbers, and the encoders that made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.tasks.recommendation.encoders import (
    Encoder,
    Hashing,
    Quantiles,
    Vocabulary,
    encoder_from_json,
)

_HASH_BUCKETS = 4096
_MAX_CATEGORIES = 5000


@dataclass(frozen=True, kw_only=True)
class FeatureEncoder:
    """How one declared column is encoded.

    Attributes:
        name: The feature's name.
        kind: ``category``, ``hashed``, ``number`` or ``date``.
        encoder: Of its code; a number's code is its quantile.
        filler: What stands for a missing number: the median of train.
    """

    name: str
    kind: str
    encoder: Encoder
    filler: float = 0.0

    @classmethod
    def fit(cls, name: str, kind: str, values: npt.NDArray[Any]) -> FeatureEncoder:
        """Fit on the values of train."""
        if kind == "category":
            return cls(
                name=name, kind=kind, encoder=Vocabulary.fit(values, max_size=_MAX_CATEGORIES)
            )
        if kind == "hashed":
            return cls(name=name, kind=kind, encoder=Hashing(buckets=_HASH_BUCKETS))
        numbers = np.asarray(values, dtype=np.float64)
        present = numbers[np.isfinite(numbers)]
        filler = float(np.median(present)) if len(present) else 0.0
        return cls(name=name, kind=kind, encoder=Quantiles.fit(numbers), filler=filler)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "filler": self.filler,
            "encoder": self.encoder.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureEncoder:
        """Read what :meth:`to_json` wrote."""
        return cls(
            name=str(value["name"]),
            kind=str(value["kind"]),
            encoder=encoder_from_json(value["encoder"]),
            filler=float(value["filler"]),
        )


@dataclass(frozen=True, kw_only=True)
class EncodedTable:
    """Features by row; of users and items the row is the code, and row 0 is the unknown one.

    Attributes:
        encoders: One a column, in the order of ``ids``.
        ids: int64 ``(rows, columns)``.
        numbers: float32 ``(rows, numeric columns)``, finite: numbers as they are, dates in days
            since 1970.
    """

    encoders: tuple[FeatureEncoder, ...]
    ids: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float32]

    @property
    def numeric(self) -> tuple[FeatureEncoder, ...]:
        """The encoders of ``numbers``, in their order."""
        return tuple(row for row in self.encoders if row.kind in ("number", "date"))

    @classmethod
    def encode(
        cls, encoders: Iterable[FeatureEncoder], columns: Iterable[npt.NDArray[Any]], rows: int
    ) -> EncodedTable:
        """Encode columns of ``rows`` values each; None and NaN stand for what is missing."""
        known = tuple(encoders)
        ids = np.zeros((rows, len(known)), dtype=np.int64)
        numbers = []
        for position, (encoder, values) in enumerate(zip(known, columns, strict=True)):
            ids[:, position] = encoder.encoder.encode(values)
            if encoder.kind in ("number", "date"):
                found = np.asarray(values, dtype=np.float64)
                numbers.append(np.where(np.isfinite(found), found, encoder.filler))
        stacked = np.stack(numbers, axis=1) if numbers else np.zeros((rows, 0))
        return cls(encoders=known, ids=ids, numbers=stacked.astype(np.float32))

    @classmethod
    def empty(cls, rows: int) -> EncodedTable:
        """Return a table without columns."""
        return cls.encode((), (), rows)
