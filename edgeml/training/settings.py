"""How a model is fine-tuned: values only, so that a recipe reads as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training picture.

    Attributes:
        flip: Whether half of the pictures are mirrored left to right.
        max_shift: Largest shift in each direction, as a share of the side; the border is repeated.
    """

    flip: bool = True
    max_shift: float = 1 / 16

    def __post_init__(self) -> None:
        if not 0 <= self.max_shift <= 1:
            raise InputError(f"max_shift is {self.max_shift}; a share from 0 to 1 was expected")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is fine-tuned.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Pictures a step.
        learning_rate: Peak of AdamW's rate.
        weight_decay: On matrices and filters, not on biases and norms.
        warmup_share: Share of all steps over which the rate rises.
        label_smoothing: Share of probability spread over all classes.
        patience: Epochs without a better validation accuracy before training stops.
        norm_momentum: Weight of a new batch in the running statistics of batch normalisation.
        seed: Seed of order, augmentation and dropout.
        num_threads: Threads of torch; None takes what affinity and cgroup quota allow.
        augmentation: What happens to the pictures.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    label_smoothing: float = 0.05
    patience: int = 3
    norm_momentum: float = 0.05
    seed: int = 0
    num_threads: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; a positive number was expected")
        for name in ("warmup_share", "label_smoothing", "norm_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; 0 to 1 was expected")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay is {self.weight_decay}; at least 0 was expected")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; 0 to 2**63 - 1 was expected")
        if self.num_threads is not None and self.num_threads < 1:
            raise InputError(f"num_threads is {self.num_threads}; at least 1 was expected")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
