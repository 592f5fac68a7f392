"""Where the time of a training step goes, by PyTorch's profiler."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from edgeml.training.augmentation import augment
from edgeml.training.compute import Compute
from edgeml.training.image_history import LabelledImages, Normalisation
from edgeml.training.settings import TrainingSettings

_WARMUP, _STEPS, _ROWS = 1, 4, 15


def profile_steps(
    model: nn.Module,
    data: LabelledImages,
    *,
    normalisation: Normalisation,
    settings: TrainingSettings,
    compute: Compute,
) -> dict[str, Any]:
    """Profile a few training steps on a copy of the network.

    Args:
        model: It is not changed.
        data: What batches are drawn from.
        normalisation: The contract's scaling.
        settings: Batch size, augmentation, threads.
        compute: Precision and layout.

    Returns:
        ``step_ms`` of one step, ``steps``, and ``operators``: name, calls a step, self time in ms a
        step, and its share of all.
    """
    trial = copy.deepcopy(model).train()
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    trial.to(memory_format=layout)  # type: ignore[call-overload]
    picks = np.arange(min(settings.batch_size, len(data)))
    generator = torch.Generator().manual_seed(settings.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.num_threads or threads)

    def step() -> None:
        images, targets = data.take(picks)
        pixels = normalisation.apply(augment(images, settings.augmentation, generator))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute.bf16):
            logits = trial(pixels if compute.channels_last else pixels.contiguous())
        functional.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
        trial.zero_grad(set_to_none=True)

    try:
        with torch.random.fork_rng(devices=[]):
            for _ in range(_WARMUP):
                step()
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                for _ in range(_STEPS):
                    step()
    finally:
        torch.set_num_threads(threads)
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows) or 1.0
    return {
        "steps": _STEPS,
        "batch": len(picks),
        "compute": compute.name,
        "step_ms": total / _STEPS / 1e3,
        "operators": [
            {
                "operator": row.key,
                "calls": row.count / _STEPS,
                "self_ms": row.self_cpu_time_total / _STEPS / 1e3,
                "share": row.self_cpu_time_total / total,
            }
            for row in rows[:_ROWS]
        ],
    }
