"""Our own split: copies stay in one part as far as that leaves a split, and no further."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.data.image_splitting import split_images, without_fixed_cameras
from edgeml.data.image_survey import leaks_of
from edgeml.errors import DataError
from tests.unit.data.scenes import dataset_of, look_alikes, recompressed, scene, survey_of


def _split(
    dataset: ImageDataset, *, seed: int = 0, allow_leaks: bool = False
) -> tuple[Split, str, dict[str, int]]:
    survey = survey_of(dataset)
    split, kept = split_images(
        dataset,
        without_fixed_cameras(dataset, survey),
        seed=seed,
        shares=(1 / 12, None),
        excluded=None,
        allow_leaks=allow_leaks,
    )
    return split, kept, leaks_of(dataset, survey, split)


def _by_class(*pictures: list[Any], **options: Any) -> ImageDataset:
    targets = np.repeat(np.arange(len(pictures)), [len(rows) for rows in pictures])
    return dataset_of([image for rows in pictures for image in rows], targets=targets, **options)


def test_copies_stay_together() -> None:
    images = [scene(seed) for seed in range(24)]
    images += [recompressed(image) for image in images]
    dataset = dataset_of(images)
    for seed in range(5):
        _, kept, leaks = _split(dataset, seed=seed)
        assert (kept, leaks) == ("near copies", {"exact": 0, "near": 0})
        careless = make_split(dataset, seed=seed)
        assert leaks_of(dataset, survey_of(dataset), careless)["near"] > 0


def test_allowing_leaks_makes_none_where_none_are_needed() -> None:
    images = [scene(seed) for seed in range(24)]
    _, kept, leaks = _split(dataset_of([*images, *images]), allow_leaks=True)
    assert (kept, leaks) == ("near copies", {"exact": 0, "near": 0})


@pytest.mark.parametrize("count", [3, 10, 12, 60])
def test_a_camera_that_stands_still_can_be_learnt_from(count: int) -> None:
    dataset = dataset_of(look_alikes(2 * count))
    survey = survey_of(dataset)
    copies = without_fixed_cameras(dataset, survey)
    assert survey.findings["near_copies"] == 2 * count - 1
    np.testing.assert_array_equal(copies.near, copies.exact)
    split, _, leaks = _split(dataset)
    held = max(1, round(count / 12))
    assert split.sizes() == {
        "train": 2 * (count - 2 * held), "validation": 2 * held, "test": 2 * held
    }  # fmt: skip
    assert leaks == {"exact": 0, "near": 4 * held}


def test_a_camera_that_stands_still_does_not_part_other_copies() -> None:
    others = [scene(seed) for seed in range(100, 130)]
    copied = [recompressed(image) for image in others]
    dataset = dataset_of([*look_alikes(60), *others, *copied])
    survey = survey_of(dataset)
    assert len(np.unique(without_fixed_cameras(dataset, survey).near)) == 60 + 30
    assert len(np.unique(survey.near)) == 1 + 30


def test_a_class_of_one_view_is_parted_and_the_rest_is_not() -> None:
    """Too few pictures to be called a camera's, and no split that keeps them together."""
    dataset = _by_class(look_alikes(9), [scene(seed) for seed in range(50, 59)])
    _, kept, leaks = _split(dataset)
    assert kept == "exact copies"
    assert leaks["near"] == 2


def test_many_copies_of_few_originals_stay_together() -> None:
    """What is augmented before training is told apart from a camera: each is of one class."""
    first, second = ([image for seed in range(4) for image in look_alikes(25, seed=seed + base)]
                     for base in (0, 10))  # fmt: skip
    split, kept, leaks = _split(_by_class(first, second))
    assert (kept, leaks["near"]) == ("near copies", 0)
    assert split.sizes() == {"train": 100, "validation": 50, "test": 50}


@pytest.mark.parametrize("kind", ["exact copies", "groups"])
def test_a_split_that_would_part_copies_is_refused(kind: str) -> None:
    exact = kind == "exact copies"
    first = [scene(0)] * 9 if exact else [scene(seed) for seed in range(9)]
    groups = None if exact else np.array([0] * 9 + list(range(1, 10)))
    dataset = _by_class(first, [scene(seed) for seed in range(50, 59)], groups=groups)
    with pytest.raises(DataError, match=r"'a' has 1 distinct groups .* --allow-leaks"):
        _split(dataset)
    _, kept, leaks = _split(dataset, allow_leaks=True)
    assert kept == "nothing"
    assert leaks["exact" if exact else "group"] == 2


def test_groups_of_the_users_outlast_copies() -> None:
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, *range(3, 12)])
    dataset = _by_class([scene(0)] * 9, [scene(seed) for seed in range(50, 59)], groups=groups)
    with pytest.raises(DataError, match="'a' has 1 distinct groups"):
        _split(dataset)
    _, kept, leaks = _split(dataset, allow_leaks=True)
    assert kept == "groups"
    assert leaks["group"] == 0


def test_too_few_pictures_are_refused_whatever_is_allowed() -> None:
    dataset = _by_class([scene(0), scene(1)], [scene(seed) for seed in range(5, 9)])
    with pytest.raises(DataError, match="'a' has 2 pictures; at least 3"):
        _split(dataset, allow_leaks=True)
