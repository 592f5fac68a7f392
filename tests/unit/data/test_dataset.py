"""Splits: disjoint, every class in each part, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.data.dataset import ImageDataset, make_split
from edgeml.errors import DataError


def _dataset(counts: list[int]) -> ImageDataset:
    targets = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(1).shuffle(targets)
    return ImageDataset(
        name="made-up",
        labels=tuple(f"class {index}" for index in range(len(counts))),
        items=np.zeros((len(targets), 2, 2), dtype=np.uint8),
        targets=targets.astype(np.int64),
        fingerprint="0" * 64,
    )


counts = st.lists(st.integers(3, 40), min_size=2, max_size=5)
shares = st.floats(0.01, 0.9)


@given(counts, st.integers(0, 2**32 - 1), shares)
def test_parts_are_disjoint_whole_and_have_every_class(
    counts: list[int], seed: int, share: float
) -> None:
    dataset = _dataset(counts)
    split = make_split(dataset, seed=seed, validation_share=share)
    joined = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(joined), np.arange(len(dataset.targets)))
    for part in (split.train, split.validation, split.test):
        assert part.dtype == np.int64
        assert set(dataset.targets[part]) == set(range(len(counts)))
    assert split.sizes() == {
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
    }


@given(counts, st.integers(0, 99), shares, st.data())
def test_a_test_part_of_the_sets_own_is_kept(
    counts: list[int], seed: int, share: float, data: st.DataObject
) -> None:
    dataset = _dataset([count + 3 for count in counts])
    fixed: list[int] = []
    for index, count in enumerate(counts):
        members = np.flatnonzero(dataset.targets == index).tolist()
        fixed += data.draw(st.permutations(members))[: data.draw(st.integers(0, count))]
    own = np.array(fixed, dtype=np.int64)
    split = make_split(replace(dataset, fixed_test=own), seed=seed, validation_share=share)
    np.testing.assert_array_equal(split.test, np.sort(own))
    assert not set(split.train) & set(split.validation)
    assert not (set(split.train) | set(split.validation)) & set(fixed)
    for part in (split.train, split.validation):
        assert set(dataset.targets[part]) == set(range(len(counts)))


def test_a_seed_decides() -> None:
    dataset = _dataset([30, 30])
    first, again, other = (make_split(dataset, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.train, other.train)


def test_shares_are_those_asked_for() -> None:
    split = make_split(_dataset([48, 24]), seed=0, validation_share=1 / 12)
    assert split.sizes() == {"train": 60, "validation": 6, "test": 6}


def test_a_class_that_is_too_small_is_named() -> None:
    with pytest.raises(DataError, match="'class 1' has 2 pictures; at least 3") as caught:
        make_split(_dataset([9, 2]), seed=0)
    assert caught.value.source == "made-up"
