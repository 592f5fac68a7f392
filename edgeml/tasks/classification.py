"""From probabilities to labels, for every classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
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
        if not np.isfinite(probabilities).all():
            raise ModelOutputError(tensor="probabilities")
        return [self._one(row.tolist(), served_by) for row in probabilities]

    def _one(self, row: list[float], served_by: str) -> Prediction:
        best = max(range(len(row)), key=row.__getitem__)
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
