"""Nets over rows of a table: numbers in several inputs, ids beside numbers."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import set_up, train
from benchmarks.zoo.tracing import trace

_WIDTHS = {"profile": 32, "history": 64, "context": 16}
_CLASSES = 10
_IDS = {"user": 5000, "item": 2000, "category": 40, "hour": 24}
_NUMBERS = 8
_SAMPLES = 2000


class MultiInputPerceptron(nn.Module):
    """Three rows of numbers side by side, two hidden layers, a head."""

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        inputs = sum(_WIDTHS.values())
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, _CLASSES),
        )

    def forward(self, profile: Tensor, history: Tensor, context: Tensor) -> Tensor:
        """Map float32 ``(batch, 32)``, ``(batch, 64)`` and ``(batch, 16)``."""
        logits: Tensor = self.layers(torch.cat([profile, history, context], dim=1))
        return logits


class WideAndDeep(nn.Module):
    """A linear part over ids and numbers beside a deep part over their embeddings."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.wide = nn.ModuleList([nn.Embedding(size, 2) for size in _IDS.values()])
        self.deep = nn.ModuleList([nn.Embedding(size, width) for size in _IDS.values()])
        for table in self.wide:
            nn.init.zeros_(table.weight)
        for table in self.deep:
            nn.init.normal_(table.weight, std=0.1)
        self.layers = nn.Sequential(
            nn.Linear(width * len(_IDS) + _NUMBERS, 1024),
            nn.ReLU(),
            nn.Linear(1024, 512),
            nn.ReLU(),
            nn.Linear(512, 2),
        )

    def forward(
        self, user: Tensor, item: Tensor, category: Tensor, hour: Tensor, numbers: Tensor
    ) -> Tensor:
        """Map four int64 ``(batch,)`` and float32 ``(batch, 8)`` to logits ``(batch, 2)``."""
        ids = (user, item, category, hour)
        deep = [table(row) for table, row in zip(self.deep, ids, strict=True)]
        logits: Tensor = self.layers(torch.cat([*deep, numbers], dim=1))
        for table, row in zip(self.wide, ids, strict=True):
            logits = logits + table(row)
        return logits


def mlp(*, samples: int = _SAMPLES, steps: int = 300, hidden: int = 1024) -> Built:
    """Build the perceptron with three inputs."""
    set_up(0)
    module = MultiInputPerceptron(hidden)
    train(module, lambda step: _clusters(128, seed=1000 + step), steps=steps, rate=1e-3)
    inputs, labels = _clusters(samples, seed=1)
    example = {name: torch.from_numpy(array[:2]) for name, array in inputs.items()}
    return Built(
        model=trace(module, example),
        inputs=inputs,
        labels=labels,
        facts={"weights": "trained", "task": f"{_CLASSES} overlapping clusters"},
    )


def wide_and_deep() -> Built:
    """Build the click model."""
    set_up(0)
    module = WideAndDeep()
    train(module, lambda step: _clicks(512, seed=1000 + step), steps=900, rate=3e-3)
    inputs, labels = _clicks(_SAMPLES, seed=1)
    example = {name: torch.from_numpy(array[:2]) for name, array in inputs.items()}
    return Built(
        model=trace(module, example),
        inputs=inputs,
        labels=labels,
        facts={"weights": "trained", "task": "seeded clicks"},
    )


@functools.cache
def _centres():
    return np.random.default_rng(7).normal(0, 0.32, (_CLASSES, sum(_WIDTHS.values())))


def _clusters(count: int, *, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, _CLASSES, count)
    rows = _centres()[labels] * rng.uniform(0.5, 1.5, (count, 1)) + rng.normal(
        0, 1, (count, sum(_WIDTHS.values()))
    )
    parts = np.split(rows.astype(np.float32), np.cumsum(list(_WIDTHS.values()))[:-1], axis=1)
    inputs = {name: np.ascontiguousarray(part) for name, part in zip(_WIDTHS, parts, strict=True)}
    return inputs, labels.astype(np.int64)


@functools.cache
def _truth():
    """What a click depends on: a taste of each id, and of the numbers."""
    rng = np.random.default_rng(11)
    return {name: rng.normal(0, 1.5, size) for name, size in _IDS.items()}, rng.normal(
        0, 1, _NUMBERS
    )


def _clicks(count: int, *, seed: int):
    rng = np.random.default_rng(seed)
    tastes, slopes = _truth()
    # Popular ids are frequent, as in a log; the rare ones stay all but unseen.
    ids = {
        name: np.minimum(rng.geometric(5 / size, count) - 1, size - 1).astype(np.int64)
        for name, size in _IDS.items()
    }
    numbers = rng.normal(0, 1, (count, _NUMBERS)).astype(np.float32)
    score = sum(tastes[name][rows] for name, rows in ids.items()) + numbers @ slopes
    labels = rng.random(count) < 1 / (1 + np.exp(-1.5 * score))
    return {**ids, "numbers": numbers}, labels.astype(np.int64)
