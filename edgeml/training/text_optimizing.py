"""What a step of a text classifier's training minimises, and how fast each weight moves."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeml.training.text_history import LabelledTexts
from edgeml.training.text_settings import TextTrainingSettings

_LAYER = re.compile(r"\.layer\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Cross-entropy, or binary cross-entropy of each label where several may hold.

    Attributes:
        multi_label: Which of them.
        weights: float32 ``(classes,)`` weight of a class, or of a label that holds; None weighs
            all alike.
        smoothing: Share of probability spread over all classes.
    """

    multi_label: bool
    weights: Tensor | None
    smoothing: float

    @classmethod
    def of(cls, data: LabelledTexts, settings: TextTrainingSettings) -> Loss:
        """Return the loss for these texts: counts of their classes give the weights."""
        targets = data.targets
        multi_label = targets.ndim == 2
        weights = None
        if settings.class_weights == "balanced":
            counts = (
                targets.sum(axis=0)
                if multi_label
                else np.bincount(targets, minlength=data.num_classes)
            )
            other = len(targets) - counts if multi_label else len(targets) / len(counts)
            weights = torch.from_numpy(np.asarray(other / np.maximum(counts, 1), dtype=np.float32))
        return cls(multi_label=multi_label, weights=weights, smoothing=settings.label_smoothing)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of ``logits``, float32 ``(batch, classes)``."""
        if self.multi_label:
            wanted = targets.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
            return functional.binary_cross_entropy_with_logits(
                logits, wanted, pos_weight=self.weights
            )
        return functional.cross_entropy(
            logits, targets, weight=self.weights, label_smoothing=self.smoothing
        )


def rate_share(step: int, total: int, warmup_share: float) -> float:
    """Return the share of the peak rate: linear up, then linear down to nothing.

    Example:
        >>> [rate_share(step, 4, 0.5) for step in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)


def make_optimizer(model: nn.Module, settings: TextTrainingSettings) -> torch.optim.AdamW:
    """Return AdamW over a model's weights; each group has its ``share`` of the rate."""
    depths = [
        int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))
    ]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, value in model.named_parameters():
        below = _layers_above(name, num_layers=max(depths, default=-1) + 1)
        share = settings.layer_decay**below
        decay = settings.weight_decay if value.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(value)
    return torch.optim.AdamW(
        [
            {"params": values, "share": share, "weight_decay": decay}
            for (share, decay), values in groups.items()
        ],
        lr=settings.learning_rate,
    )


def _layers_above(name: str, *, num_layers: int) -> int:
    """Return how many steps of decay a weight is below the head."""
    found = _LAYER.search(name)
    if found:
        return num_layers - int(found[1])
    return num_layers + 1 if ".embeddings." in name else 0
