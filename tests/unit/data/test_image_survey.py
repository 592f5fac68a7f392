"""Copies of pictures: found, kept together by our own split, refused in somebody else's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeml.data.dataset import Split
from edgeml.data.image_survey import leaks_of, refuse_leaks, survey_images
from edgeml.errors import DataError
from tests.unit.data.scenes import dataset_of, recompressed, scene, survey_of


def test_exact_and_near_copies_are_counted() -> None:
    images = [scene(seed) for seed in range(20)]
    copies = [images[0], recompressed(images[1]), np.clip(images[2] * 0.95 + 6, 0, 255)]
    images += [copies[0], copies[1], copies[2].astype(np.uint8)]
    found = survey_of(dataset_of(images))
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
    turned = [np.ascontiguousarray(scene(seed)[:, ::-1]) for seed in range(5)]
    images = [*flat, *noise, *turned, *(scene(seed) for seed in range(5))]
    assert survey_of(dataset_of(images)).findings["near_copies"] == 0


def test_near_copies_in_a_published_set_matter_where_a_part_is_drawn() -> None:
    images = [*(scene(seed) for seed in range(4)), recompressed(scene(0))]
    lacking = dataset_of(images, published=True, fixed_validation=np.array([3]))
    assert survey_of(lacking).findings["near_copies"] == 1
    complete = replace(lacking, fixed_test=np.array([2]))
    assert not survey_of(complete).findings["near_copies_looked_for"]


def test_copies_with_two_labels_are_contradictions() -> None:
    images = [scene(0), scene(0), scene(1), scene(2)]
    assert survey_of(dataset_of(images)).findings["contradictions"] == 1


def test_pictures_that_are_passed_over_are_copies_of_none() -> None:
    images = [scene(0), scene(1), scene(0)]
    dataset = dataset_of(images, hashes=None, targets=np.array([0, 1, 0]))
    samples = np.arange(3)
    assert survey_images(dataset, np.stack(images), samples).findings["near_copies"] == 1
    samples[2] = -1
    assert survey_images(dataset, np.stack(images), samples).findings["near_copies"] == 0


def test_pictures_that_are_nearly_black_are_counted() -> None:
    # Values of 12 bits in a file of 16 arrive as 0 to 15.
    dark = [(scene(seed) // 16).astype(np.uint8) for seed in range(3)]
    assert survey_of(dataset_of([*dark, scene(3)])).findings["nearly_black"] == 3


@pytest.mark.parametrize("kind", ["exact", "near", "group"])
def test_a_leaking_split_is_refused_and_counted(kind: str) -> None:
    images = [scene(seed) for seed in range(12)]
    images[11] = images[0] if kind == "exact" else images[11]
    images[11] = recompressed(images[0]) if kind == "near" else images[11]
    dataset = dataset_of(images)
    if kind == "group":
        groups = np.arange(12)
        groups[11] = 0
        dataset = replace(dataset, groups=groups)
    split = Split(train=np.arange(8), validation=np.array([8, 9]), test=np.array([10, 11]))
    leaks = leaks_of(dataset, survey_of(dataset), split)
    assert leaks[kind] == 1
    words = {"exact": "copies", "near": "near copies", "group": "of the same group"}[kind]
    with pytest.raises(DataError, match=rf"judge by, 1 are {words} of .* --allow-leaks"):
        refuse_leaks("scenes", leaks)
    assert leaks_of(dataset, survey_of(dataset), split, parts=("validation",))[kind] == 0
