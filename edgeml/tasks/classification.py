"""From probabilities to labels, for every classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.errors import ModelOutputError


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """Names of the classes, in the order of the model's outputs.

    Attributes:
        names: One name a class.
        multi_label: Whether several may hold at once.
        threshold: Probability from which a label of a multi-label model holds.
    """

    names: tuple[str, ...]
    multi_label: bool = False
    threshold: float = 0.5

    def interpret(self, probabilities: npt.NDArray[Any], *, served_by: str) -> list[Prediction]:
        """Turn probabilities into predictions.

        Args:
            probabilities: float32 ``(batch, classes)``.
            served_by: Who answered.

        Raises:
            ModelOutputError: A probability is NaN or infinite.
        """
        rows = probabilities.tolist()
        # A sum is finite only if each of its terms is; for one short row that beats numpy.
        if not all(math.isfinite(sum(row)) for row in rows):
            raise ModelOutputError(tensor="probabilities")
        return [self._one(row, served_by) for row in rows]

    def _one(self, row: list[float], served_by: str) -> Prediction:
        best = row.index(max(row))
        holding: tuple[str, ...] = ()
        if self.multi_label:
            pairs = zip(self.names, row, strict=True)
            holding = tuple(name for name, value in pairs if value >= self.threshold)
        return Prediction(
            label=self.names[best],
            score=row[best],
            scores=dict(zip(self.names, row, strict=True)),
            labels=holding,
            served_by=served_by,
        )
