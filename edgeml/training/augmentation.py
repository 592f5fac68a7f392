"""Random shifts and flips of uint8 batches, as one gather."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeml.training.settings import Augmentation


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment a batch.

    Args:
        images: uint8 ``(batch, height, width, 3)``.
        augmentation: What may happen.
        generator: Source of chance.

    Returns:
        uint8 of the same shape.
    """
    batch, height, width, _ = images.shape
    rows = _shifted(batch, height, augmentation.max_shift, generator)
    columns = _shifted(batch, width, augmentation.max_shift, generator)
    if augmentation.flip:
        mirrored = torch.rand(batch, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    sample = torch.arange(batch)[:, None, None]
    return images[sample, rows[:, :, None], columns[:, None, :]]


def _shifted(batch: int, size: int, max_shift: float, generator: torch.Generator) -> Tensor:
    reach = round(size * max_shift)
    shift = torch.randint(-reach, reach + 1, (batch, 1), generator=generator)
    return (torch.arange(size) + shift).clamp(0, size - 1)
