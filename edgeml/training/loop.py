"""The training loop: warm-up, cosine decay, early stopping, the best epoch kept; seeded."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import DataError
from edgeml.training.augmentation import augment
from edgeml.training.settings import TrainingSettings

_EVALUATION_BATCH = 250
_CURVE_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Pictures, uint8 ``(samples, height, width, 3)``, and targets, int64 ``(samples,)``."""

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Channel means and deviations on the 0..255 scale; what the exported graph does first."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, images: Tensor) -> Tensor:
        """Turn uint8 ``(batch, height, width, 3)`` into float32 ``(batch, 3, height, width)``.

        The result is a transposed view, which is torch's channels_last layout and the faster one
        here.
        """
        mean = torch.tensor(self.mean)
        scale = 1 / torch.tensor(self.std)
        return ((images.float() - mean) * scale).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened while training.

    Attributes:
        epochs: One row an epoch: losses, accuracies, seconds.
        curve: Every twenty steps: step, smoothed training loss, learning rate.
        best_epoch: The epoch whose weights were kept, from 1.
        stopped_early: Whether patience ended it.
        seconds: Wall time.
    """

    epochs: list[dict[str, float]]
    curve: list[dict[str, float]]
    best_epoch: int
    stopped_early: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the history as JSON values."""
        return asdict(self)


def train(
    model: nn.Module,
    data: LabelledImages,
    validation: LabelledImages,
    *,
    normalisation: Normalisation,
    settings: TrainingSettings,
    progress: Progress = silent,
) -> History:
    """Fine-tune ``model`` in place; it ends with the weights of its best epoch, in evaluation mode.

    Args:
        model: Float images to logits.
        data: What to fit.
        validation: What to choose the epoch by.
        normalisation: The contract's scaling.
        settings: How.
        progress: Told at every step.

    Raises:
        DataError: The loss became NaN or infinite.
    """
    with _torch_state(settings):
        return _Run(model, normalisation, settings, progress).fit(data, validation)


def evaluate(
    model: nn.Module, data: LabelledImages, normalisation: Normalisation
) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of a model in evaluation mode."""
    model.eval()
    loss, right = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(data.targets), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            # Copies: torch warns of arrays that it could not write to.
            logits = model(normalisation.apply(torch.from_numpy(np.array(data.images[part]))))
            targets = torch.from_numpy(np.array(data.targets[part]))
            loss += float(functional.cross_entropy(logits, targets, reduction="sum"))
            right += int((logits.argmax(dim=1) == targets).sum())
    return loss / len(data.targets), right / len(data.targets)


class _Run:
    """One training run's moving parts."""

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalisation = normalisation
        self.settings = settings
        self.progress = progress
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimizer = _optimizer(model, settings)
        self.curve: list[dict[str, float]] = []
        self.step = 0
        self.smoothed: float | None = None
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum

    def fit(self, data: LabelledImages, validation: LabelledImages) -> History:
        started = time.perf_counter()
        settings = self.settings
        # A last batch of one sample has no variance for batch normalisation: it is left out.
        whole = max(1, len(data.targets) // settings.batch_size)
        total = whole * settings.epochs
        rows: list[dict[str, float]] = []
        best, best_epoch, best_state = -1.0, 0, None
        for epoch in range(1, settings.epochs + 1):
            began = time.perf_counter()
            train_loss = self._epoch(data, whole, total)
            loss, accuracy = evaluate(self.model, validation, self.normalisation)
            rows.append(
                {
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "validation_loss": loss,
                    "validation_accuracy": accuracy,
                    "seconds": time.perf_counter() - began,
                }
            )
            if accuracy > best:
                best, best_epoch = accuracy, epoch
                best_state = copy.deepcopy(self.model.state_dict())
            elif epoch - best_epoch >= settings.patience:
                break
        assert best_state is not None
        self.model.load_state_dict(best_state)
        self.model.eval()
        return History(
            epochs=rows,
            curve=self.curve,
            best_epoch=best_epoch,
            stopped_early=len(rows) < settings.epochs,
            seconds=time.perf_counter() - started,
        )

    def _epoch(self, data: LabelledImages, whole: int, total: int) -> float:
        self.model.train()
        order = torch.randperm(len(data.targets), generator=self.generator).numpy()
        losses = 0.0
        for batch in range(whole):
            picks = order[batch * self.settings.batch_size : (batch + 1) * self.settings.batch_size]
            loss = self._step(data.images[picks], data.targets[picks], total)
            losses += loss
            self.smoothed = loss if self.smoothed is None else 0.95 * self.smoothed + 0.05 * loss
            self.step += 1
            if self.step % _CURVE_STEPS == 0 or self.step == total:
                rate = self.optimizer.param_groups[0]["lr"]
                row = {"step": self.step, "train_loss": self.smoothed, "learning_rate": rate}
                self.curve.append(row)
            note = f"loss {self.smoothed:.3f}"
            self.progress(ProgressEvent(stage="train", done=self.step, total=total, note=note))
        return losses / whole

    def _step(
        self, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64], total: int
    ) -> float:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(
                self.step, total, settings.warmup_share
            )
        batch = augment(torch.from_numpy(images), settings.augmentation, self.generator)
        logits = self.model(self.normalisation.apply(batch))
        loss = functional.cross_entropy(
            logits, torch.from_numpy(targets), label_smoothing=settings.label_smoothing
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            reason = f"the loss is {value} at step {self.step}; lower the learning rate"
            raise DataError(source="training", reason=reason)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        return value


def _schedule(step: int, total: int, warmup_share: float) -> float:
    """Return the share of the peak rate: linear up, then half a cosine down."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
    )


@contextlib.contextmanager
def _torch_state(settings: TrainingSettings) -> Iterator[None]:
    """Give the run its threads and its seed, and give the caller's back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.num_threads or threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_num_threads(threads)
