"""The training loop of image classifiers: seeded, resumable, the best epoch kept.

AdamW, warm-up and half a cosine, the head alone first where asked, a running average of the weights
that is evaluated beside them. After each epoch the whole state can be written to disk, from which a
killed training goes on to the same weights, bit for bit on the same threads. So does another one
with the same seed, if its precision is given and not measured.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import DataError
from edgeml.training import figures, unfinished
from edgeml.training.augmentation import augment, mix
from edgeml.training.compute import ChosenCompute, Compute, choose_compute
from edgeml.training.evaluating import evaluate_logits
from edgeml.training.image_history import History, LabelledImages, Normalisation
from edgeml.training.image_optimizing import (
    ImageLoss,
    blended,
    distillation_loss,
    make_optimizer,
    rate_share,
    set_dropout,
    set_norm_momentum,
)
from edgeml.training.run_state import (
    grouped,
    no_number,
    own_threads_and_seed,
    packed,
    restore_chance,
    restore_moments,
)
from edgeml.training.settings import TrainingSettings
from edgeml.training.unfinished import Saving

_CURVE_STEPS = 20
_MAX_NORM = 5.0
_MEASURED_SAMPLES = 16


def train(
    model: nn.Module,
    data: LabelledImages,
    validation: LabelledImages,
    *,
    normalisation: Normalisation,
    settings: TrainingSettings,
    head: frozenset[str] = frozenset(),
    saving: Saving | None = None,
    progress: Progress = silent,
) -> History:
    """Fine-tune ``model`` in place; it ends with the weights of its best epoch, in evaluation mode.

    Args:
        model: Float images to logits.
        data: What to fit.
        validation: What to choose the epoch by.
        normalisation: The contract's scaling.
        settings: How.
        head: Names of the parameters that learn from the first epoch on, at the full rate.
        saving: Where to keep the unfinished training after each epoch; None keeps none.
        progress: Told at every step.

    Raises:
        DataError: The loss became NaN or infinite, or the unfinished training is damaged.
        InputError: There is no unfinished training to resume, or it is another one.
    """
    with own_threads_and_seed(num_threads=settings.num_threads, seed=settings.seed):
        run = _Run(model, data, normalisation, settings, head)
        return run.fit(validation, saving, progress)


class _Run:
    """One training run's moving parts."""

    def __init__(
        self,
        model: nn.Module,
        data: LabelledImages,
        normalisation: Normalisation,
        settings: TrainingSettings,
        head: frozenset[str],
    ) -> None:
        self.model, self.data, self.normalisation = model, data, normalisation
        self.settings, self.head = settings, head
        set_dropout(model, settings.dropout)
        set_norm_momentum(model, settings.norm_momentum)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.loss = ImageLoss(data.targets, settings)
        self.average: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self.best = (-math.inf, -math.inf)
        self.history = History()
        self.step = 0
        self.smoothed: float | None = None
        # A last batch of one sample has no variance for batch normalisation: it is left out.
        self.per_epoch = max(1, len(data) // settings.batch_size)
        self.total = self.per_epoch * settings.epochs
        self.compute = Compute(bf16=False, channels_last=True)
        self.optimizer = make_optimizer(model, settings, head)

    def fit(self, validation: LabelledImages, saving: Saving | None, progress: Progress) -> History:
        settings, history = self.settings, self.history
        if saving is not None and saving.resume:
            tensors, values = unfinished.read_state(saving.place, saving.identity)
            self._use(Compute(**values["compute"]))
            self._restore(saving, tensors, values)
            history = self.history
        else:
            chosen = self._measured()
            history.compute = chosen.to_json()
            self._use(chosen.compute)
            if settings.averaging:
                self.average = self._copy()
            if saving is not None:
                self._save(saving)
        before, started = history.seconds, time.perf_counter()
        for epoch in range(len(history.epochs) + 1, settings.epochs + 1):
            began = time.perf_counter()
            train_loss = self._epoch(epoch, progress)
            self._evaluate(validation, epoch, train_loss, began)
            history.seconds = before + time.perf_counter() - started
            if epoch - history.best_epoch >= settings.patience:
                history.stopped_early = epoch < settings.epochs
                break
            if saving is not None:
                self._save(saving)
        self.model.load_state_dict(self.kept)
        self.model.requires_grad_()
        self.model.eval()
        return history

    def _use(self, compute: Compute) -> None:
        self.compute = compute
        _lay_out(self.model, compute)

    def _measured(self) -> ChosenCompute:
        """Settle how steps are computed; no weight, and no later draw, depends on it."""
        count = min(_MEASURED_SAMPLES, self.settings.batch_size, len(self.data))
        images, targets = self.data.take(np.linspace(0, len(self.data) - 1, count).astype(np.int64))
        trial: list[nn.Module] = []

        def step(compute: Compute) -> None:
            if not trial:
                trial.append(copy.deepcopy(self.model).train())
            _lay_out(trial[0], compute)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute.bf16):
                logits = trial[0](self._pixels(images, compute))
            self.loss(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
            trial[0].zero_grad(set_to_none=True)

        with torch.random.fork_rng(devices=[]):
            return choose_compute(
                self.settings.precision,
                step,
                layout=self.settings.memory_layout,
                num_steps=self.total,
            )

    def _pixels(self, images: Tensor, compute: Compute) -> Tensor:
        pixels = self.normalisation.apply(images)
        return pixels if compute.channels_last else pixels.contiguous()

    def _epoch(self, epoch: int, progress: Progress) -> float:
        frozen = epoch <= self.settings.frozen_epochs and bool(self.head)
        for name, value in self.model.named_parameters():
            value.requires_grad_(not frozen or name in self.head)
        order = self.loss.order(self.data.targets, self.generator)
        size, losses = self.settings.batch_size, 0.0
        for number in range(self.per_epoch):
            # What does not learn must not move its running statistics either.
            self.model.train(not frozen)
            losses += self._step(order[number * size : (number + 1) * size])
            note = f"loss {self.smoothed:.3f}"
            progress(ProgressEvent(stage="train", done=self.step, total=self.total, note=note))
        return losses / self.per_epoch

    def _step(self, picks: npt.NDArray[np.int64]) -> float:
        settings, optimizer = self.settings, self.optimizer
        rate = settings.peak_rate * rate_share(self.step, self.total, settings.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.zero_grad(set_to_none=True)
        loss = self._forward(picks)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise no_number(value, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_NORM)
        optimizer.step()
        self.step += 1
        self._follow()
        self.smoothed = value if self.smoothed is None else 0.95 * self.smoothed + 0.05 * value
        if self.step % _CURVE_STEPS == 0 or self.step == self.total:
            row = {"step": self.step, "train_loss": self.smoothed, "learning_rate": rate}
            self.history.curve.append(row)
        return value

    def _forward(self, picks: npt.NDArray[np.int64]) -> Tensor:
        augmentation = self.settings.augmentation
        images, targets = self.data.take(picks)
        pixels = self._pixels(augment(images, augmentation, self.generator), self.compute)
        mixed = (augmentation.mixup > 0 or augmentation.cutmix > 0) and len(picks) > 1
        other, share = targets, 1.0
        if mixed:
            pixels, other, share = mix(pixels, augmentation, self.generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.compute.bf16):
            logits = self.model(pixels)
        logits = logits.float()
        if mixed:
            loss = self.loss.blend(logits, targets, other, share)
        else:
            loss = self.loss(logits, targets)
        if self.data.taught is None:
            return loss
        taught = torch.from_numpy(self.data.taught[picks])
        if mixed:
            taught = blended(taught, other, share)
        weight = self.settings.distillation
        return (1 - weight) * loss + weight * distillation_loss(logits, taught)

    def _follow(self) -> None:
        """Move the average towards the weights; slowly only after it has left the start."""
        if not self.average:
            return
        decay = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        with torch.no_grad():
            for name, value in self.average.items():
                if value.is_floating_point():
                    value.lerp_(state[name], 1 - decay)
                else:
                    value.copy_(state[name])

    def _evaluate(
        self, validation: LabelledImages, epoch: int, train_loss: float, began: float
    ) -> None:
        row, key = self._scores(validation)
        current = self._copy()
        if self.average:
            self.model.load_state_dict(self.average)
            averaged, other = self._scores(validation)
            row["accuracies"] = [row["validation_accuracy"], averaged["validation_accuracy"]]
            if other > key:
                row, key = {**row, **averaged, "averaged": True}, other
            if key > self.best and row["averaged"]:
                self.kept = self._copy()
            self.model.load_state_dict(current)
        if key > self.best:
            self.best, self.history.best_epoch = key, epoch
            self.kept = self.kept if row["averaged"] else current
        seconds = time.perf_counter() - began
        row = {"epoch": epoch, "train_loss": train_loss, **row, "seconds": seconds}
        self.history.epochs.append(row)

    def _scores(self, validation: LabelledImages) -> tuple[dict[str, Any], tuple[float, float]]:
        """Return the figures of the present weights, and what they are compared by."""
        logits = evaluate_logits(self.model, validation, self.normalisation)
        if not np.isfinite(logits).all():
            raise no_number(math.nan, self.step)
        loss = figures.negative_log_likelihood(logits, validation.targets)
        accuracy = figures.accuracy_of(logits, validation.targets)
        f1 = figures.macro_f1(logits, validation.targets)
        row = {"validation_loss": loss, "validation_accuracy": accuracy, "validation_macro_f1": f1}
        return {**row, "averaged": False}, (f1 if self.loss.balanced else accuracy, -loss)

    def _copy(self) -> dict[str, Tensor]:
        # A clone keeps the memory layout, on which the last bits of a sum may depend.
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _save(self, saving: Saving) -> None:
        parts = {"weights": self.model.state_dict(), "average": self.average, "kept": self.kept}
        tensors = packed(parts, self.optimizer, self.generator)
        values = {
            "step": self.step,
            "smoothed": self.smoothed,
            "best": [value if math.isfinite(value) else None for value in self.best],
            "compute": {"bf16": self.compute.bf16, "channels_last": self.compute.channels_last},
            "history": self.history.to_json(),
        }
        unfinished.write_state(saving.place, tensors, values, saving.identity)

    def _restore(
        self, saving: Saving, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
    ) -> None:
        try:
            self.history = History(**values["history"])
            self.step, self.smoothed = values["step"], values["smoothed"]
            first, second = (-math.inf if v is None else float(v) for v in values["best"])
            self.best = (first, second)
            parts = grouped(tensors)
            self.model.load_state_dict(parts["weights"])
            for name in ("average", "kept"):
                setattr(self, name, self._as_weights(parts.get(name, {})))
            self._restore_moments(parts.get("moments", {}))
            restore_chance(self.generator, parts["chance"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as exc:
            reason = f"the unfinished training is damaged ({exc!r}); train without --resume"
            raise DataError(source=str(saving.place), reason=reason) from exc
        self.history.resumed += 1

    def _as_weights(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors in the memory layout of the weights that have their names."""
        state = self.model.state_dict()
        return {name: torch.empty_like(state[name]).copy_(value) for name, value in rows.items()}

    def _restore_moments(self, rows: Mapping[str, Tensor]) -> None:
        parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
        laid_out = {}
        for name, value in rows.items():
            like = parameters[int(name.partition("/")[0])]
            if value.shape == like.shape and value.ndim:
                value = torch.empty_like(like, requires_grad=False).copy_(value)
            laid_out[name] = value
        restore_moments(self.optimizer, laid_out)


def _lay_out(model: nn.Module, compute: Compute) -> None:
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
