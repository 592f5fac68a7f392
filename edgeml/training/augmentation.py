"""Random changes of training pictures: whole-pixel moves as one gather, turns as one resampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from edgeml.training.settings import Augmentation

# Sides of an erased rectangle and of a pasted one, as shares of the picture's.
_ERASED = (0.1, 0.4)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment a batch.

    Args:
        images: uint8 ``(batch, height, width, 3)``.
        augmentation: What may happen.
        generator: Source of chance.

    Returns:
        uint8 of the same shape.
    """
    if augmentation.resamples:
        changed = _resampled(images, augmentation, generator)
    else:
        changed = _moved(images, augmentation, generator)
    if augmentation.max_brightness or augmentation.max_contrast:
        changed = _lit(changed, augmentation, generator)
    return _erased(changed, augmentation.erase, generator) if augmentation.erase else changed


def mix(
    pixels: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """Blend each picture with another one of the batch, or paste a part of it.

    The share follows a beta distribution, drawn from torch's own source of chance.

    Args:
        pixels: float ``(batch, 3, height, width)``.
        augmentation: Its ``mixup`` and ``cutmix``.
        generator: Source of chance for pairs and places.

    Returns:
        The pictures, int64 ``(batch,)`` which other picture is in each, and the first one's share.
    """
    batch, _, height, width = pixels.shape
    other = torch.randperm(batch, generator=generator)
    both = augmentation.mixup > 0 and augmentation.cutmix > 0
    cut = augmentation.cutmix > 0 and not (both and _draw(1, generator).item() < 0.5)
    parameter = augmentation.cutmix if cut else augmentation.mixup
    share = float(torch.distributions.Beta(parameter, parameter).sample())
    if not cut:
        return pixels * share + pixels[other] * (1 - share), other, share
    rows, columns = (max(1, round(side * math.sqrt(1 - share))) for side in (height, width))
    top = int(torch.randint(0, height - rows + 1, (1,), generator=generator))
    left = int(torch.randint(0, width - columns + 1, (1,), generator=generator))
    part = (..., slice(top, top + rows), slice(left, left + columns))
    mixed = pixels.clone()
    mixed[part] = pixels[other][part]
    return mixed, other, 1 - rows * columns / (height * width)


def _moved(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
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


def _resampled(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Turn, enlarge, shift and mirror in one bilinear resampling; the border is repeated."""
    batch, height, width, _ = images.shape
    angle = _draw(batch, generator, -1, 1) * math.radians(augmentation.max_rotation)
    scale = _draw(batch, generator, augmentation.min_scale, 1)
    mirror = torch.ones(batch)
    if augmentation.flip:
        mirror = torch.where(_draw(batch, generator) < 0.5, -mirror, mirror)
    across, down = (
        _draw(batch, generator, -1, 1) * (2 * augmentation.max_shift + 1 - scale) for _ in range(2)
    )
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    ratio = height / width
    rows = (
        torch.stack([cosine * mirror, -sine * ratio, across], dim=1),
        torch.stack([sine * mirror / ratio, cosine, down], dim=1),
    )
    planes = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(
        torch.stack(rows, dim=1), [batch, 3, height, width], align_corners=False
    )
    drawn = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return drawn.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _lit(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    batch = len(images)
    brightness = _draw(batch, generator, -255, 255) * augmentation.max_brightness
    contrast = 1 + _draw(batch, generator, -1, 1) * augmentation.max_contrast
    values = images.float()
    middle = values.mean(dim=(1, 2, 3), keepdim=True)
    shape = (batch, 1, 1, 1)
    changed = (values - middle) * contrast.view(shape) + middle + brightness.view(shape)
    return changed.round().clamp(0, 255).to(torch.uint8)


def _erased(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Grey out a rectangle of some pictures."""
    batch, height, width, _ = images.shape
    hit = _draw(batch, generator) < share
    masks = []
    for size in (height, width):
        long = _draw(batch, generator, *_ERASED) * size
        start = _draw(batch, generator) * (size - long)
        at = torch.arange(size)
        masks.append((at >= start[:, None]) & (at < (start + long)[:, None]))
    inside = masks[0][:, :, None] & masks[1][:, None, :] & hit[:, None, None]
    return images.masked_fill(inside[..., None], 127)


def _draw(batch: int, generator: torch.Generator, low: float = 0, high: float = 1) -> Tensor:
    return torch.rand(batch, generator=generator) * (high - low) + low
