"""Fitting within a minute: a head on frozen features, or a small net as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

_THREADS = 2
_BATCH = 32

Arrays = Mapping[str, npt.NDArray[Any]]


def set_up(seed: int) -> None:
    """Seed torch and hold it to two threads, or to fewer where it has fewer already."""
    torch.set_num_threads(min(_THREADS, torch.get_num_threads()))
    torch.manual_seed(seed)


def settle_norms(module: nn.Module, images: npt.NDArray[np.float32]) -> None:
    """Give a random net's batch norms the statistics of real inputs, as training would.

    Args:
        module: Left in evaluation mode.
        images: float32 ``(samples, 3, height, width)``.
    """
    norms = [row for row in module.modules() if isinstance(row, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    module.train()
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            module(torch.from_numpy(images[start : start + _BATCH]))
    module.eval()


def features_of(call: Callable[..., Tensor], inputs: Arrays) -> npt.NDArray[np.float32]:
    """Return what a frozen net says of each sample.

    Args:
        call: Takes the inputs in their order and gives ``(batch, features)``.
        inputs: Array per input, first axis samples.

    Returns:
        float32 ``(samples, features)``.
    """
    count = len(next(iter(inputs.values())))
    rows = []
    with torch.no_grad():
        for start in range(0, count, _BATCH):
            feed = [torch.from_numpy(array[start : start + _BATCH]) for array in inputs.values()]
            rows.append(call(*feed).numpy())
    return np.concatenate(rows)


def fit_head(
    head: nn.Linear,
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    decay: float,
) -> None:
    """Fit a linear head by logistic regression; standardisation is folded into it.

    Args:
        head: Overwritten.
        features: float32 ``(samples, features)``.
        labels: int64 ``(samples,)``.
        decay: Weight of the squared norm.
    """
    mean, std = features.mean(axis=0), features.std(axis=0)
    # A feature that never moves must not get a weight of a million.
    std = np.maximum(std, 0.1 * std.mean())
    x = torch.from_numpy((features - mean) / std)
    y = torch.from_numpy(labels)
    weight = torch.zeros(head.out_features, head.in_features, requires_grad=True)
    bias = torch.zeros(head.out_features, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(x @ weight.T + bias, y) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        folded = weight / torch.from_numpy(std)
        head.weight.copy_(folded)
        head.bias.copy_(bias - folded @ torch.from_numpy(mean))


def train(
    module: nn.Module,
    draw: Callable[[int], tuple[Arrays, npt.NDArray[np.int64]]],
    *,
    steps: int,
    rate: float,
) -> None:
    """Train a small net as a whole; the rate falls to zero along a cosine.

    Args:
        module: Left in evaluation mode.
        draw: Number of the step to one batch: inputs and int64 labels.
        steps: Batches; none leaves the module as it is.
        rate: Learning rate at the start.
    """
    if not steps:
        return
    parameters = [row for row in module.parameters() if row.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    module.train()
    for step in range(steps):
        inputs, labels = draw(step)
        optimiser.zero_grad()
        logits = module(*(torch.from_numpy(array) for array in inputs.values()))
        functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    module.eval()
