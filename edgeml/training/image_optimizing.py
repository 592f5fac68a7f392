"""Optimizer, rate and loss of an image classifier's training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeml.training.settings import TrainingSettings

# From this ratio of the largest class to the smallest, "auto" weighs classes.
IMBALANCE = 3.0
# Of a teacher's answers: what it holds for less likely counts as well.
_SOFTENING = 2.0


def rate_share(step: int, total: int, warmup_share: float) -> float:
    """Return the share of the peak rate: linear up, then half a cosine down."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def head_of(model: nn.Module, num_classes: int) -> frozenset[str]:
    """Return the names of the head's parameters: of the last layer with an output a class.

    Empty where no layer has as many outputs as there are classes.
    """
    found: str | None = None
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.shape[0] == num_classes:
            found = name
    if found is None:
        return frozenset()
    start = f"{found}." if found else ""
    return frozenset(name for name, _ in model.named_parameters() if name.startswith(start))


def make_optimizer(
    model: nn.Module, settings: TrainingSettings, head: frozenset[str]
) -> torch.optim.AdamW:
    """Return AdamW: matrices and filters decay; each group has its share of the rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        share = 1.0 if name in head else settings.backbone_rate
        groups.setdefault((value.ndim > 1, share), []).append(value)
    rows: list[dict[str, Any]] = [
        {
            "params": values,
            "weight_decay": settings.weight_decay if decayed else 0.0,
            "share": share,
        }
        for (decayed, share), values in groups.items()
    ]
    return torch.optim.AdamW(rows, lr=settings.peak_rate, betas=(0.9, 0.99))


class ImageLoss:
    """Cross-entropy with smoothing and weights of classes, for one label or a blend of two."""

    def __init__(self, targets: npt.NDArray[np.int64], settings: TrainingSettings) -> None:
        counts = np.bincount(targets)
        self.smoothing = settings.label_smoothing
        present = counts[counts > 0]
        ratio = float(present.max() / present.min())
        uneven = settings.class_weights == "auto" and ratio > IMBALANCE
        self.power = {"balanced": 1.0, "auto": 0.5 if uneven else 0.0}.get(
            settings.class_weights, 0.0
        )
        rarity = np.where(counts > 0, counts.mean() / np.maximum(counts, 1), 0.0)
        self.weights = torch.from_numpy((rarity**self.power).astype(np.float32))
        self.sampling = rarity if settings.class_weights == "sampling" else None
        self.balanced = self.power > 0 or self.sampling is not None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of float logits and int64 targets."""
        return functional.cross_entropy(
            logits, targets, weight=self._weights(logits), label_smoothing=self.smoothing
        )

    def blend(self, logits: Tensor, targets: Tensor, other: Tensor, share: float) -> Tensor:
        """Return the loss where ``share`` of a picture is of its own class."""
        own, others = self(logits, targets), self(logits, targets[other])
        return share * own + (1 - share) * others

    def order(
        self, targets: npt.NDArray[np.int64], generator: torch.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw an epoch's samples in their order: each once, or rare classes more often."""
        if self.sampling is None:
            return torch.randperm(len(targets), generator=generator).numpy()
        chances = torch.from_numpy(self.sampling[targets])
        drawn = torch.multinomial(chances, len(targets), replacement=True, generator=generator)
        return drawn.numpy()

    def _weights(self, logits: Tensor) -> Tensor | None:
        if not self.power:
            return None
        missing = logits.shape[1] - len(self.weights)
        return functional.pad(self.weights, (0, missing), value=1.0)


def distillation_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Return how far answers are from a teacher's, both softened by a temperature of 2.

    Args:
        logits: float ``(batch, classes)``.
        taught: float ``(batch, classes)``, the teacher's logits or logarithms of probabilities.
    """
    wanted = functional.log_softmax(taught / _SOFTENING, dim=1)
    given = functional.log_softmax(logits / _SOFTENING, dim=1)
    gap = functional.kl_div(given, wanted, reduction="batchmean", log_target=True)
    return gap * _SOFTENING**2


def blended(taught: Tensor, other: Tensor, share: float) -> Tensor:
    """Return a teacher's answers to blended pictures, float ``(batch, classes)``, as logarithms."""
    chances = functional.softmax(taught, dim=1)
    return torch.log((share * chances + (1 - share) * chances[other]).clamp_min(1e-8))


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Give the network's dropout layers their share; None leaves them as they are."""
    for module in model.modules():
        if share is not None and isinstance(module, nn.Dropout):
            module.p = share


def set_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Give batch normalisation the weight of a new batch in its running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
