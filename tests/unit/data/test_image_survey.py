"""Copies of pictures: found, kept together by our own split, refused in somebody else's."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.data.image_survey import groups_to_keep, leaks_of, refuse_leaks, survey_images
from edgeml.errors import DataError


def _scene(seed: int) -> npt.NDArray[np.uint8]:
    """A smooth picture, as photographs are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


def _recompressed(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def _dataset(images: list[npt.NDArray[np.uint8]], **options: Any) -> ImageDataset:
    values: dict[str, Any] = {
        "targets": np.arange(len(images)) % 2,
        "hashes": np.array([hash(image.tobytes()) & (2**63 - 1) for image in images], np.uint64),
        **options,
    }
    return ImageDataset(name="scenes", labels=("a", "b"), items=images, fingerprint="f", **values)


def _survey(dataset: ImageDataset) -> Any:
    return survey_images(dataset, np.stack(dataset.items), np.arange(len(dataset.items)))


def test_exact_and_near_copies_are_counted() -> None:
    images = [_scene(seed) for seed in range(20)]
    copies = [images[0], _recompressed(images[1]), np.clip(images[2] * 0.95 + 6, 0, 255)]
    images += [copies[0], copies[1], copies[2].astype(np.uint8)]
    found = _survey(_dataset(images))
    assert found.findings["exact_copies"] == 1
    assert found.findings["near_copies"] == 2
    assert found.exact[20] == found.exact[0]
    assert found.near[21] == found.near[1]
    assert found.near[22] == found.near[2]
    assert len(np.unique(found.near)) == 20


def test_different_pictures_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((64, 64, 3), level, dtype=np.uint8) for level in range(0, 200, 20)]
    noise = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(10)]
    turned = [np.ascontiguousarray(_scene(seed)[:, ::-1]) for seed in range(5)]
    images = [*flat, *noise, *turned, *(_scene(seed) for seed in range(5))]
    assert _survey(_dataset(images)).findings["near_copies"] == 0


def test_copies_with_two_labels_are_contradictions() -> None:
    images = [_scene(0), _scene(0), _scene(1), _scene(2)]
    assert _survey(_dataset(images)).findings["contradictions"] == 1


def test_our_own_split_keeps_copies_together() -> None:
    images = [_scene(seed) for seed in range(24)]
    images += [_recompressed(image) for image in images]
    dataset = _dataset(images)
    found = _survey(dataset)
    together, near = groups_to_keep(dataset, found)
    assert near
    for seed in range(5):
        split = make_split(dataset, seed=seed, keep_together=together)
        assert leaks_of(dataset, found, split) == {"exact": 0, "near": 0}
        careless = make_split(dataset, seed=seed)
        assert leaks_of(dataset, found, careless)["near"] > 0


def test_a_fixed_camera_is_not_taken_for_copies() -> None:
    scene, rng = _scene(0).astype(np.int64), np.random.default_rng(0)
    images = [
        np.clip(scene + rng.integers(-3, 4, scene.shape), 0, 255).astype(np.uint8)
        for _ in range(60)
    ]
    dataset = _dataset(images)
    _, near = groups_to_keep(dataset, _survey(dataset))
    assert not near


@pytest.mark.parametrize("kind", ["exact", "near", "group"])
def test_a_leaking_split_is_refused_and_counted(kind: str) -> None:
    images = [_scene(seed) for seed in range(12)]
    images[11] = images[0] if kind == "exact" else images[11]
    images[11] = _recompressed(images[0]) if kind == "near" else images[11]
    dataset = _dataset(images)
    if kind == "group":
        groups = np.arange(12)
        groups[11] = 0
        dataset = replace(dataset, groups=groups)
    split = Split(train=np.arange(8), validation=np.array([8, 9]), test=np.array([10, 11]))
    leaks = leaks_of(dataset, _survey(dataset), split)
    assert leaks[kind] == 1
    with pytest.raises(DataError, match=r"1 are .* --allow-leaks"):
        refuse_leaks("scenes", leaks, near=True)
    if kind == "near":
        refuse_leaks("scenes", leaks, near=False)
