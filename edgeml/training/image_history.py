"""What goes into the training of an image classifier, and what is known of it afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Pictures and their right answers.

    Attributes:
        images: uint8 ``(pictures, height, width, 3)``.
        targets: int64 ``(samples,)``.
        rows: int64 ``(samples,)``, which picture each sample is; None where all are, in order.
        taught: float32 ``(samples, classes)``, a teacher's logits to learn from; None without one.
    """

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64] | None = None
    taught: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, picks: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return copies of some samples: uint8 pictures and int64 targets."""
        rows = picks if self.rows is None else self.rows[picks]
        return torch.from_numpy(np.array(self.images[rows])), torch.from_numpy(self.targets[picks])


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Channel means and deviations on the 0..255 scale; what the exported graph does first."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, images: Tensor) -> Tensor:
        """Turn uint8 ``(batch, height, width, 3)`` into float32 ``(batch, 3, height, width)``.

        The result is a transposed view, which is torch's channels_last layout.
        """
        mean = torch.tensor(self.mean)
        scale = 1 / torch.tensor(self.std)
        return ((images.float() - mean) * scale).permute(0, 3, 1, 2)


@dataclass(kw_only=True)
class History:
    """What happened while training.

    Attributes:
        epochs: One row an epoch: losses, accuracy and macro F1 on the validation part, whether the
            averaged weights were the better ones, seconds.
        curve: Every twenty steps: step, smoothed training loss, learning rate.
        best_epoch: The epoch whose weights were kept, from 1.
        stopped_early: Whether patience ended it.
        seconds: Wall time, of all parts of a resumed training.
        compute: Precision and memory layout of the steps, and why.
        resumed: How often it was resumed.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    compute: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the weights that were kept."""
        return float(self.epochs[self.best_epoch - 1]["validation_accuracy"])

    def to_json(self) -> dict[str, Any]:
        """Return the history as JSON values."""
        return asdict(self)
