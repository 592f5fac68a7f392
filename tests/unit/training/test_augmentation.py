"""Augmentation moves pixels about and makes none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeml.errors import InputError
from edgeml.training.augmentation import augment
from edgeml.training.settings import Augmentation


def _batch(batch: int, height: int, width: int) -> torch.Tensor:
    values = np.random.default_rng(3).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def _augment(images: torch.Tensor, seed: int = 0, **options: object) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return augment(images, Augmentation(**options), generator)  # type: ignore[arg-type]


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.floats(0, 0.5))
def test_each_picture_is_shifted_and_perhaps_mirrored(
    batch: int, height: int, width: int, flip: bool, max_shift: float
) -> None:
    images = _batch(batch, height, width)
    before = images.clone()
    result = _augment(images, flip=flip, max_shift=max_shift)
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    for source, got in zip(images.numpy(), result.numpy(), strict=True):
        assert any(np.array_equal(got, one) for one in _moved(source, flip, max_shift))


def _moved(source: np.ndarray, flip: bool, max_shift: float) -> list[np.ndarray]:
    """Every picture that may come out, made with numpy's own padding."""
    down, across = (round(size * max_shift) for size in source.shape[:2])
    padded = np.pad(source, ((down, down), (across, across), (0, 0)), mode="edge")
    height, width = source.shape[:2]
    windows = [
        padded[top : top + height, left : left + width]
        for top in range(2 * down + 1)
        for left in range(2 * across + 1)
    ]
    return windows + ([window[:, ::-1] for window in windows] if flip else [])


def test_nothing_asked_is_nothing_done() -> None:
    images = _batch(5, 9, 7)
    assert torch.equal(_augment(images, flip=False, max_shift=0.0), images)


def test_about_half_are_mirrored() -> None:
    images = _batch(400, 4, 5)
    result = _augment(images, flip=True, max_shift=0.0)
    mirrored = sum(torch.equal(a.flip(1), b) for a, b in zip(images, result, strict=True))
    kept = sum(torch.equal(a, b) for a, b in zip(images, result, strict=True))
    assert mirrored + kept == 400
    assert 140 < mirrored < 260


def test_the_generator_decides() -> None:
    images = _batch(8, 16, 16)
    assert torch.equal(_augment(images, 1), _augment(images, 1))
    assert not torch.equal(_augment(images, 1), _augment(images, 2))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_shift_is_a_share(share: float) -> None:
    with pytest.raises(InputError, match="max_shift"):
        Augmentation(max_shift=share)
