"""Train a ranker: multi-task, stopped by the validation rows, the averaged weights kept.

Interaction logs are overfitted within an epoch or two, so validation is looked at several times an
epoch, and the best weights so far are what comes out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeml.errors import DataError
from edgeml.tasks.recommendation.ranking import RankingFields, RankingRows
from edgeml.tasks.recommendation.ranking_measures import area_under_curve, groups_of, mean_ndcg
from edgeml.training.recommendation.ranker_calibration import platt
from edgeml.training.recommendation.ranker_objectives import head_losses, listwise_loss
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.training.recommendation.wide_and_deep import WideAndDeep

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class TrainedRanker:
    """A ranker and how it came about.

    Attributes:
        module: In evaluation mode, calibrated.
        fields: What it reads and predicts.
        settings: How it was trained.
        validation: The best validation figure: AUC (pointwise) or NDCG@10 (listwise).
        epochs: Passes over the training rows up to that figure.
        history: The figure at each look.
    """

    module: WideAndDeep
    fields: RankingFields
    settings: RankerSettings
    validation: float
    epochs: float
    history: tuple[float, ...]


@dataclass(frozen=True)
class _Tensors:
    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    labels: Tensor
    groups: Tensor


def train_ranker(
    fields: RankingFields,
    train: RankingRows,
    validation: RankingRows,
    settings: RankerSettings | None = None,
    *,
    report: Callable[[str], None] | None = None,
) -> TrainedRanker:
    """Train a Wide & Deep ranker.

    Args:
        fields: What it reads and predicts.
        train: Rows with a label for each head.
        validation: Rows that stop the training and calibrate the heads.
        settings: Size and schedule.
        report: Takes a line at each look at the validation rows.

    Raises:
        InputError: A code lies outside its vocabulary, or a number is not finite.
        DataError: The first head's labels are all alike, in train or validation, or training
            diverged.
    """
    settings = settings or RankerSettings()
    for name, rows in (("train", train), ("validation", validation)):
        fields.check(rows.to_arrays())
        _check_labels(name, fields, rows)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    module = WideAndDeep(fields, settings, train)
    _start_from_base_rate(module, fields, train)
    kept, best, history, epochs = _run(
        module, _tensors(fields, train), _look(fields, validation, settings), settings, rng, report
    )
    module.load_state_dict(kept)
    module.eval()
    _calibrate(module, fields, validation)
    return TrainedRanker(
        module=module,
        fields=fields,
        settings=settings,
        validation=best,
        epochs=epochs,
        history=tuple(history),
    )


def _run(
    module: WideAndDeep,
    data: _Tensors,
    look: Callable[[WideAndDeep], float],
    settings: RankerSettings,
    rng: np.random.Generator,
    report: Callable[[str], None] | None,
) -> tuple[dict[str, Tensor], float, list[float], float]:
    """Return the best averaged weights, their figure, all figures, and the epochs they took."""
    average = copy.deepcopy(module).eval()
    optimizer = _optimizer(module, settings)
    history: list[float] = []
    kept, best, best_look = copy.deepcopy(average.state_dict()), -np.inf, 0
    steps = 0
    for _ in range(settings.max_epochs):
        batches = list(_batches(data, settings, rng))
        looks = set(np.linspace(0, len(batches), settings.checks_per_epoch + 1).astype(int)[1:])
        for number, rows in enumerate(batches, start=1):
            steps += 1
            _step(module, optimizer, data, rows, settings)
            _follow(average, module, min(settings.averaging, steps / (steps + 10)))
            if number not in looks:
                continue
            history.append(look(average))
            if not np.isfinite(history[-1]):
                raise DataError(
                    source="validation",
                    reason="gives no figure to stop by: training diverged, or no group has both a "
                    "positive and another row; lower the learning rate, or widen validation",
                )
            if report:
                report(f"look {len(history)}: validation {history[-1]:.4f}")
            if history[-1] > best:
                kept, best, best_look = (
                    copy.deepcopy(average.state_dict()),
                    history[-1],
                    len(history),
                )
            elif len(history) - best_look >= settings.patience:
                return kept, float(best), history, best_look / settings.checks_per_epoch
    return kept, float(best), history, best_look / settings.checks_per_epoch


def _optimizer(module: WideAndDeep, settings: RankerSettings) -> torch.optim.Optimizer:
    tables = module.tables()
    known = {id(row) for row in tables}
    layers = [row for row in module.parameters() if id(row) not in known]
    return torch.optim.AdamW(
        [
            {"params": layers, "weight_decay": settings.weight_decay},
            {"params": tables, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


def _step(
    module: WideAndDeep,
    optimizer: torch.optim.Optimizer,
    data: _Tensors,
    rows: Tensor,
    settings: RankerSettings,
) -> None:
    module.train()
    logits = module.logits(*(part[rows] for part in data.inputs))
    labels = data.labels[rows]
    if settings.objective == "listwise":
        _, groups = torch.unique(data.groups[rows], return_inverse=True)
        loss = listwise_loss(logits[:, 0], labels[:, 0], groups)
        if len(module.heads) > 1:
            rest = head_losses(logits[:, 1:], labels[:, 1:], module.heads[1:], 1.0)
            loss = loss + settings.other_heads * rest
    else:
        loss = head_losses(logits, labels, module.heads, settings.other_heads)
    if settings.table_penalty:
        squares = torch.stack([table.square().sum() for table in module.tables()])
        loss = loss + settings.table_penalty * squares.sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _batches(
    data: _Tensors, settings: RankerSettings, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Yield row numbers, in an order drawn anew; of whole groups where candidates compete."""
    size = settings.batch_size
    if settings.objective == "pointwise":
        order = torch.from_numpy(rng.permutation(len(data.groups)))
        yield from torch.split(order, size)
        return
    groups = data.groups.numpy()
    parts = list(groups_of(groups))
    shuffled = rng.permutation(len(parts))
    for start in range(0, len(parts), size):
        chosen = [parts[index] for index in shuffled[start : start + size]]
        yield torch.from_numpy(np.concatenate(chosen))


@torch.no_grad()
def _follow(average: WideAndDeep, module: WideAndDeep, decay: float) -> None:
    for kept, now in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)


def _look(
    fields: RankingFields, rows: RankingRows, settings: RankerSettings
) -> Callable[[WideAndDeep], float]:
    labels = rows.labels[fields.heads[0].name]
    data = _tensors(fields, rows)

    def figure(module: WideAndDeep) -> float:
        scores = _all_logits(module, data)[:, 0].numpy()
        if not np.isfinite(scores).all():
            return float("nan")
        if settings.objective == "listwise":
            return mean_ndcg(labels, scores, rows.groups)
        return area_under_curve(labels, scores)

    return figure


@torch.no_grad()
def _all_logits(module: WideAndDeep, data: _Tensors) -> Tensor:
    module.eval()
    starts = range(0, len(data.groups), _ROWS_AT_ONCE)
    return torch.cat(
        [
            module.logits(*(part[start : start + _ROWS_AT_ONCE] for part in data.inputs))
            for start in starts
        ]
    )


def _tensors(fields: RankingFields, rows: RankingRows) -> _Tensors:
    def tensor(array: np.ndarray, kind: type) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))

    labels = np.stack([rows.labels[head.name] for head in fields.heads], axis=1)
    return _Tensors(
        inputs=(
            tensor(rows.request_ids, np.int64),
            tensor(rows.request_numbers, np.float32),
            tensor(rows.candidate_ids, np.int64),
            tensor(rows.candidate_numbers, np.float32),
        ),
        labels=tensor(labels, np.float32),
        groups=tensor(rows.groups, np.int64),
    )


def _start_from_base_rate(module: WideAndDeep, fields: RankingFields, rows: RankingRows) -> None:
    """Set the last layer's offsets, so that the first steps need not find the average."""
    with torch.no_grad():
        for place, head in enumerate(fields.heads):
            mean = float(np.nan_to_num(np.nanmean(rows.labels[head.name])))
            if head.kind == "binary":
                mean = float(
                    np.log(np.clip(mean, 1e-4, 0.9999) / (1 - np.clip(mean, 1e-4, 0.9999)))
                )
            module.last.bias[place] = mean


def _calibrate(module: WideAndDeep, fields: RankingFields, rows: RankingRows) -> None:
    data = _tensors(fields, rows)
    logits = _all_logits(module, data)
    for place, head in enumerate(fields.heads):
        if head.kind == "binary":
            found = platt(logits[:, place], data.labels[:, place])
            module.calibration[place] = torch.tensor(found)


def _check_labels(name: str, fields: RankingFields, rows: RankingRows) -> None:
    first = fields.heads[0].name
    for head in fields.heads:
        if head.name not in rows.labels:
            raise DataError(source=name, reason=f"has no labels for the head '{head.name}'")
    labels = rows.labels[first]
    if len(np.unique(labels[~np.isnan(labels)] > 0.5)) < 2:
        raise DataError(
            source=name,
            reason=f"all labels of '{first}' are alike; a ranker needs positives and others",
        )
