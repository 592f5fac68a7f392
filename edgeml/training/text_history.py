"""What goes into the training of a text classifier, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy.typing as npt

from edgeml.tasks.text import EncodedText


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """Encoded texts and their right answers.

    Attributes:
        rows: The texts.
        targets: int64 ``(samples,)``, or bool ``(samples, classes)``.
        num_classes: Number of classes, of which some may not occur.
    """

    rows: Sequence[EncodedText]
    targets: npt.NDArray[Any]
    num_classes: int


@dataclass(kw_only=True)
class TextHistory:
    """What happened while training.

    Attributes:
        evaluations: One row each: epoch, step, losses, validation accuracy and macro F1, whether
            the averaged weights were the better ones, and seconds.
        curve: Every twenty steps: step, smoothed training loss, learning rate.
        best: The evaluation whose weights were kept, from 1.
        epochs: Epochs begun.
        stopped_early: Whether patience ended it.
        seconds: Wall time, of all parts of a resumed training.
        precision: What steps were computed in, and why.
        resumed: How often it was resumed.
    """

    evaluations: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    epochs: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    precision: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the weights that were kept."""
        return float(self.evaluations[self.best - 1]["validation_accuracy"])

    def to_json(self) -> dict[str, Any]:
        """Return the history as JSON values."""
        return asdict(self)
