"""Augmentation moves pixels about and makes none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from edgeml.errors import InputError
from edgeml.training.augmentation import augment, mix
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


def _scene() -> Tensor:
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((40, 24), Image.Resampling.BICUBIC))
    return torch.from_numpy(np.stack([picture] * 16))


@pytest.mark.parametrize(
    "change",
    [
        {"max_rotation": 20.0},
        {"min_scale": 0.6},
        {"max_brightness": 0.3},
        {"max_contrast": 0.5},
        {"erase": 1.0},
        {"flip": True, "max_rotation": 1e-6},
    ],
    ids=str,
)
def test_each_change_changes_and_none_leaves_the_range(change: dict[str, Any]) -> None:
    images = _scene()
    values: dict[str, Any] = {"flip": False, "max_shift": 0.0, **change}
    changed = augment(images, Augmentation(**values), torch.Generator().manual_seed(0))
    assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
    gaps = (changed.float() - images.float()).abs().mean(dim=(1, 2, 3))
    assert gaps.max() > 1
    assert gaps.max() < 90
    again = augment(images, Augmentation(**values), torch.Generator().manual_seed(0))
    assert torch.equal(changed, again)


def test_a_resampling_that_may_do_nothing_is_close_to_the_picture() -> None:
    images = _scene()
    still = Augmentation(flip=False, max_shift=0.0, max_rotation=1e-9)
    changed = augment(images, still, torch.Generator().manual_seed(0))
    assert (changed.float() - images.float()).abs().max() <= 1


def test_a_turn_keeps_the_proportions() -> None:
    # A disc in a wide picture stays a disc: as many pixels, and as wide as high.
    rows, columns = np.mgrid[0:32, 0:64]
    disc = (np.hypot(rows - 15.5, columns - 31.5) < 10).astype(np.uint8)[..., None] * 255
    images = torch.from_numpy(np.repeat(disc, 3, axis=2)[None].repeat(8, axis=0))
    turned = augment(
        images, Augmentation(flip=False, max_shift=0.0, max_rotation=90.0),
        torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert (turned.float() - images.float()).abs().mean() < 6


def test_mixed_pictures_hold_the_share_that_they_say() -> None:
    pixels = torch.zeros(6, 3, 20, 20)
    pixels[3:] = 1.0
    for values in ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}):
        generator = torch.Generator().manual_seed(2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            mixed, other, share = mix(pixels, Augmentation(**values), generator)
        own, others = pixels.mean(dim=(1, 2, 3)), pixels[other].mean(dim=(1, 2, 3))
        wanted = share * own + (1 - share) * others
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_shift", 2.0), ("min_scale", 0.0), ("max_rotation", 200.0), ("mixup", -1.0),
     ("erase", 1.5)],
)  # fmt: skip
def test_an_augmentation_outside_its_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        Augmentation(**{name: value})  # type: ignore[arg-type]
