"""The training loop of text classifiers: seeded, resumable, the best evaluated weights kept.

AdamW, a linear rise and fall of the rate, batches of like length, a running average of the weights
that is evaluated beside them. The last batch of an epoch may be small: layer norms do not mind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.core.signature import Tensors
from edgeml.errors import DataError
from edgeml.tasks.text import EncodedText, length_batches
from edgeml.training import figures, unfinished
from edgeml.training.run_state import (
    grouped,
    no_number,
    own_threads_and_seed,
    packed,
    restore_chance,
    restore_moments,
)
from edgeml.training.text_history import LabelledTexts, TextHistory
from edgeml.training.text_optimizing import Loss, make_optimizer, rate_share
from edgeml.training.text_precision import UsedPrecision, choose_precision
from edgeml.training.text_settings import TextTrainingSettings
from edgeml.training.unfinished import Saving

Collate = Callable[[Sequence[EncodedText]], Tensors]

_EVALUATION_TOKENS = 4096
_CURVE_STEPS = 20
_POOL_BATCHES = 50
_MAX_NORM = 1.0


def train_text(
    model: nn.Module,
    data: LabelledTexts,
    validation: LabelledTexts,
    *,
    collate: Collate,
    settings: TextTrainingSettings,
    saving: Saving | None = None,
    progress: Progress = silent,
) -> TextHistory:
    """Fine-tune ``model`` in place; it ends with its best weights, in evaluation mode.

    Args:
        model: Takes the tensors of ``collate`` by name; its answer has ``logits``.
        data: What to fit.
        validation: What to choose the weights by.
        collate: The contract's: pads rows and joins them.
        settings: How.
        saving: Where to keep the unfinished training after each epoch; None keeps none.
        progress: Told at every step.

    Raises:
        DataError: A loss became NaN or infinite, or the unfinished training is damaged.
        InputError: There is no unfinished training to resume, or it is another one.
    """
    with own_threads_and_seed(num_threads=settings.num_threads, seed=settings.seed):
        return _Run(model, data, collate, settings, progress).fit(validation, saving)


def evaluate_logits(
    model: nn.Module, rows: Sequence[EncodedText], collate: Collate
) -> npt.NDArray[np.float32]:
    """Return a model's logits, float32 ``(samples, classes)``, computed in fp32."""
    model.eval()
    lengths = [len(row.ids) for row in rows]
    batches = length_batches(lengths, max_tokens=_EVALUATION_TOKENS)
    answers: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode():
        for batch in batches:
            feed = _feed(collate([rows[index] for index in batch]))
            answers.append(model(**feed).logits.float().numpy())
    joined = np.concatenate(answers)
    logits = np.empty_like(joined)
    logits[np.concatenate([np.asarray(batch) for batch in batches])] = joined
    return logits


def _feed(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in tensors.items()}


class _Run:
    """One training run's moving parts."""

    def __init__(
        self,
        model: nn.Module,
        data: LabelledTexts,
        collate: Collate,
        settings: TextTrainingSettings,
        progress: Progress,
    ) -> None:
        self.model, self.data, self.collate = model, data, collate
        self.settings, self.progress = settings, progress
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimizer = make_optimizer(model, settings)
        self.loss = Loss.of(data, settings)
        self.parameters = dict(model.named_parameters())
        self.average = self._copy() if settings.averaging else {}
        self.kept: dict[str, Tensor] = {}
        self.best = (-math.inf, -math.inf)
        self.history = TextHistory()
        self.bf16 = False
        self.step = 0
        self.smoothed: float | None = None
        self.per_epoch = math.ceil(len(data.rows) / settings.batch_size)
        self.total = self.per_epoch * settings.epochs

    def fit(self, validation: LabelledTexts, saving: Saving | None) -> TextHistory:
        if saving is not None and saving.resume:
            self._restore(saving)
        else:
            self.history.precision = self._measured().to_json()
        history, settings = self.history, self.settings
        self.bf16 = history.precision["precision"] == "bf16"
        before, started = history.seconds, time.perf_counter()
        for epoch in range(history.epochs + 1, settings.epochs + 1):
            history.epochs = epoch
            self._epoch(validation)
            history.seconds = before + time.perf_counter() - started
            if history.stopped_early:
                break
            if saving is not None:
                self._save(saving)
        self._put(self.kept)
        self.model.eval()
        return history

    def _epoch(self, validation: LabelledTexts) -> None:
        times = self.settings.evaluations_per_epoch
        ends = {round(self.per_epoch * number / times) for number in range(1, times + 1)}
        losses: list[float] = []
        began = time.perf_counter()
        for number, batch in enumerate(self._batches(), start=1):
            losses.append(self._step(batch))
            if number not in ends:
                continue
            self._evaluate(validation, float(np.mean(losses)), began)
            losses, began = [], time.perf_counter()
            if len(self.history.evaluations) - self.history.best >= self.settings.patience:
                last = number == self.per_epoch and self.history.epochs == self.settings.epochs
                self.history.stopped_early = not last
                return

    def _batches(self) -> list[npt.NDArray[np.int64]]:
        """Draw an epoch's batches: texts of like length in one, batches in random order."""
        size = self.settings.batch_size
        order = torch.randperm(len(self.data.rows), generator=self.generator).numpy()
        lengths = np.array([len(row.ids) for row in self.data.rows])
        batches = []
        for start in range(0, len(order), _POOL_BATCHES * size):
            pool = order[start : start + _POOL_BATCHES * size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[at : at + size] for at in range(0, len(pool), size)]
        shuffled = torch.randperm(len(batches), generator=self.generator).tolist()
        return [batches[index] for index in shuffled]

    def _step(self, batch: npt.NDArray[np.int64]) -> float:
        settings, optimizer = self.settings, self.optimizer
        rate = settings.learning_rate * rate_share(self.step, self.total, settings.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.model.train()
        optimizer.zero_grad(set_to_none=True)
        value = self._backward(batch, bf16=self.bf16)
        if not math.isfinite(value):
            raise no_number(value, self.step)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_NORM)
        optimizer.step()
        self.step += 1
        self._follow()
        self.smoothed = value if self.smoothed is None else 0.95 * self.smoothed + 0.05 * value
        if self.step % _CURVE_STEPS == 0 or self.step == self.total:
            row = {"step": self.step, "train_loss": self.smoothed, "learning_rate": rate}
            self.history.curve.append(row)
        note = f"loss {self.smoothed:.3f}"
        self.progress(ProgressEvent(stage="train", done=self.step, total=self.total, note=note))
        return value

    def _backward(self, batch: npt.NDArray[np.int64], *, bf16: bool) -> float:
        feed = _feed(self.collate([self.data.rows[index] for index in batch.tolist()]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = self.model(**feed).logits
        loss = self.loss(logits.float(), torch.from_numpy(self.data.targets[batch]))
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _measured(self) -> UsedPrecision:
        """Settle the precision; no weight, and no later draw, depends on what is measured."""
        size = min(self.settings.batch_size, len(self.data.rows))
        batch = np.linspace(0, len(self.data.rows) - 1, size).astype(np.int64)

        def step(kind: Literal["fp32", "bf16"]) -> None:
            self.model.train()
            self._backward(batch, bf16=kind == "bf16")
            self.optimizer.zero_grad(set_to_none=True)

        with torch.random.fork_rng(devices=[]):
            return choose_precision(self.settings.precision, step)

    def _follow(self) -> None:
        """Move the average towards the weights; slowly only after it has left the start."""
        decay = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.average.items():
                value.lerp_(self.parameters[name], 1 - decay)

    def _evaluate(self, validation: LabelledTexts, train_loss: float, began: float) -> None:
        row, key = self._scores(validation)
        if self.average:
            current = self._copy()
            self._put(self.average)
            averaged, other = self._scores(validation)
            row["accuracies"] = [row["validation_accuracy"], averaged["validation_accuracy"]]
            if other > key:
                row, key = {**row, **averaged, "averaged": True}, other
            if key > self.best:
                self.kept = self._copy() if row["averaged"] else current
            self._put(current)
        elif key > self.best:
            self.kept = self._copy()
        seconds = time.perf_counter() - began
        row = {"epoch": self.history.epochs, "step": self.step, "train_loss": train_loss, **row}
        self.history.evaluations.append({**row, "seconds": seconds})
        if key > self.best:
            self.best, self.history.best = key, len(self.history.evaluations)

    def _scores(self, validation: LabelledTexts) -> tuple[dict[str, Any], tuple[float, float]]:
        """Return the figures of the present weights, and what they are compared by."""
        logits = evaluate_logits(self.model, validation.rows, self.collate)
        if not np.isfinite(logits).all():
            raise no_number(math.nan, self.step)
        loss = figures.negative_log_likelihood(logits, validation.targets)
        accuracy = figures.accuracy_of(logits, validation.targets)
        f1 = figures.macro_f1(logits, validation.targets)
        score = f1 if self.settings.class_weights == "balanced" else accuracy
        row = {"validation_loss": loss, "validation_accuracy": accuracy, "validation_macro_f1": f1}
        return {**row, "averaged": False}, (score, -loss)

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)

    def _save(self, saving: Saving) -> None:
        parts: dict[str, Mapping[str, Tensor]]
        parts = {"weights": self.parameters, "average": self.average, "kept": self.kept}
        tensors = packed(parts, self.optimizer, self.generator)
        values = {
            "step": self.step,
            "smoothed": self.smoothed,
            "best": list(self.best),
            "history": self.history.to_json(),
        }
        unfinished.write_state(saving.place, tensors, values, saving.identity)

    def _restore(self, saving: Saving) -> None:
        tensors, values = unfinished.read_state(saving.place, saving.identity)
        try:
            self.history = TextHistory(**values["history"])
            self.step, self.smoothed = values["step"], values["smoothed"]
            self.best = (values["best"][0], values["best"][1])
            parts = grouped(tensors)
            self._put({name: parts["weights"][name] for name in self.parameters})
            self.average = parts.get("average", {})
            self.kept = parts["kept"]
            restore_moments(self.optimizer, parts["moments"])
            restore_chance(self.generator, parts["chance"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as exc:
            reason = f"the unfinished training is damaged ({exc!r}); train without --resume"
            raise DataError(source=str(saving.place), reason=reason) from exc
        self.history.resumed += 1
