"""A network's answers on labelled pictures, always in fp32 and without a gradient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeml.training import figures
from edgeml.training.image_history import LabelledImages, Normalisation

_BATCH = 250
# Of one batch at most, so that large pictures do not need gigabytes.
_PIXELS = 250 * 128 * 128


def evaluate(
    model: nn.Module, data: LabelledImages, normalisation: Normalisation
) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of a model in evaluation mode."""
    logits = evaluate_logits(model, data, normalisation)
    loss = figures.negative_log_likelihood(logits, data.targets)
    return loss, figures.accuracy_of(logits, data.targets)


def evaluate_logits(
    model: nn.Module, data: LabelledImages, normalisation: Normalisation, *, batch: int = _BATCH
) -> npt.NDArray[np.float32]:
    """Return a model's logits, float32 ``(samples, classes)``.

    Args:
        model: Float images to logits; it is put into evaluation mode.
        data: What to answer.
        normalisation: The contract's scaling.
        batch: Samples computed together.
    """
    model.eval()
    height, width = data.images.shape[1:3]
    batch = max(1, min(batch, _PIXELS // (height * width)))
    answers = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            picks = np.arange(start, min(start + batch, len(data)))
            images, _ = data.take(picks)
            answers.append(model(normalisation.apply(images)).float().numpy())
    return np.concatenate(answers)
