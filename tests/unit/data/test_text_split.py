"""Splits of texts: equal texts stay together, and what a set fixes is kept or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.data.dataset import (
    TextDataset,
    make_text_split,
    normalised,
    refuse_overlap,
    text_findings,
    text_fingerprint,
    text_hashes,
)
from edgeml.errors import DataError


def _dataset(texts: list[str], classes: list[int], **fixed: Any) -> TextDataset:
    targets = np.array(classes, dtype=np.int64)
    labels = tuple(f"class {index}" for index in range(max(classes) + 1))
    fixed = {name: np.array(rows, dtype=np.int64) for name, rows in fixed.items()}
    return TextDataset(
        name="made-up", labels=labels, items=texts, targets=targets, fingerprint="0" * 64, **fixed
    )


def _plain(counts: list[int]) -> TextDataset:
    classes = np.repeat(np.arange(len(counts)), counts).tolist()
    return _dataset([f"text {row}" for row in range(len(classes))], classes)


def _normal(dataset: TextDataset, rows: np.ndarray) -> set[str]:
    return {normalised(dataset.items[row]) for row in rows}


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=12), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 0.9),
)
def test_parts_are_whole_have_every_class_and_share_no_text(
    repeats: list[list[int]], seed: int, share: float
) -> None:
    """``repeats``: how often each distinct text of each class is there, in changing spelling."""
    rows = [
        (f"Text {'  ' * copy}{index} {number}", index)
        for index, one in enumerate(repeats)
        for number, count in enumerate(one)
        for copy in range(count)
    ]
    np.random.default_rng(seed).shuffle(rows)
    dataset = _dataset([text for text, _ in rows], [int(index) for _, index in rows])
    split = make_text_split(dataset, seed=seed, validation_share=share)
    parts = (split.train, split.validation, split.test)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(rows)))
    for part in parts:
        assert part.dtype == np.int64
        assert set(dataset.targets[part].tolist()) == set(range(len(repeats)))
    seen = [_normal(dataset, part) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_spellings_of_one_text_stay_together() -> None:
    spellings = ["Good film", "good  FILM ", "\uff27ood\tfilm", "GOOD\u00a0FILM"]
    assert {normalised(text) for text in spellings} == {"good film"}
    texts = spellings * 5 + [f"a {row}" for row in range(9)] + [f"b {row}" for row in range(9)]
    dataset = _dataset(texts, [0] * 29 + [1] * 9)
    for seed in range(20):
        split = make_text_split(dataset, seed=seed)
        held = [np.isin(part, np.arange(20)).sum() for part in (split.train, split.test)]
        assert set(held) <= {0, 20}


def test_a_seed_decides_and_shares_are_those_asked_for() -> None:
    dataset = _plain([60, 40])
    first, again, other = (make_text_split(dataset, seed=seed) for seed in (5, 5, 6))
    assert first.sizes() == {"train": 80, "validation": 10, "test": 10}
    np.testing.assert_array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)
    assert np.bincount(dataset.targets[first.validation]).tolist() == [6, 4]


def test_fixed_parts_are_kept_and_excluded_rows_are_in_none() -> None:
    dataset = replace(
        _plain([20, 20]), fixed_test=np.array([39, 3, 4]), excluded=np.array([0, 1, 25])
    )
    split = make_text_split(dataset, seed=1)
    assert split.test.tolist() == [3, 4, 39]
    assert split.sizes() == {"train": 30, "validation": 4, "test": 3}
    both = replace(dataset, fixed_validation=np.array([7, 30]))
    split = make_text_split(both, seed=1)
    assert split.validation.tolist() == [7, 30]
    rest = set(range(40)) - {39, 3, 4, 0, 1, 25, 7, 30}
    assert set(split.train.tolist()) == rest
    only = replace(_plain([20, 20]), fixed_validation=np.array([7, 30]))
    assert make_text_split(only, seed=1).sizes() == {"train": 34, "validation": 2, "test": 4}


def test_a_fixed_part_that_shares_texts_is_refused_with_the_count() -> None:
    texts = [f"text {row}" for row in range(20)]
    texts[15], texts[16] = "TEXT 0", "text  1"
    classes = [row % 2 for row in range(20)]
    fixed_test = list(range(14, 20))
    with pytest.raises(
        DataError, match="2 of 6 test texts are also in the training rows"
    ) as caught:
        make_text_split(_dataset(texts, classes, fixed_test=fixed_test), seed=0)
    assert caught.value.source == "made-up"
    with pytest.raises(DataError, match="2 of 6 validation texts are also in the training"):
        make_text_split(_dataset(texts, classes, fixed_validation=fixed_test), seed=0)
    both = _dataset(texts, classes, fixed_test=fixed_test, fixed_validation=[0, 2, 3], excluded=[1])
    with pytest.raises(DataError, match="1 of 6 test texts are also in the validation rows"):
        make_text_split(both, seed=0)
    # Taken out of training they are no overlap.
    excluded = _dataset(texts, classes, fixed_test=fixed_test, excluded=[0, 1])
    assert make_text_split(excluded, seed=0).sizes()["test"] == 6


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["b 0", "b 1"], "'class 1' has 2 distinct texts to split; at least 3"),
        (["same", "Same", "same ", "b 1"], "'class 1' has 2 distinct texts"),
        ([], "'class 1' has 0 distinct texts"),
    ],
    ids=["few", "few-distinct", "none"],
)
def test_a_class_that_is_too_small_is_named(texts: list[str], says: str) -> None:
    many = [f"a {row}" for row in range(9)]
    dataset = _dataset([*many, *texts], [0] * 9 + [1] * len(texts))
    with pytest.raises(DataError, match=says):
        make_text_split(replace(dataset, labels=("class 0", "class 1")), seed=0)


def test_several_labels_a_text_are_split_by_text() -> None:
    targets = np.zeros((40, 3), dtype=bool)
    targets[:, 0] = True
    dataset = replace(_plain([20, 20]), targets=targets, labels=("a", "b", "c"))
    assert dataset.multi_label
    assert make_text_split(dataset, seed=0).sizes() == {"train": 32, "validation": 4, "test": 4}
    small = replace(dataset, items=dataset.items[:2], targets=targets[:2])
    with pytest.raises(DataError, match="there are 2 distinct texts to split"):
        make_text_split(small, seed=0)


def test_findings_count_duplicates_and_contradictions() -> None:
    dataset = _dataset(["Good", "good ", "bad", "bad", "so-so", "GOOD"], [1, 1, 0, 1, 0, 0])
    assert text_findings(dataset) == {
        "samples": 6,
        "duplicates": 3,
        "contradictions": 2,
        "classes": {"class 0": 3, "class 1": 3},
        "longest_characters": 5,
    }
    rows = np.array([[1, 0], [1, 1], [0, 0], [0, 0], [0, 1], [1, 0]], dtype=bool)
    several = text_findings(replace(dataset, targets=rows))
    assert several["contradictions"] == 1
    assert several["classes"] == {"class 0": 3, "class 1": 2}


def test_hashes_are_of_the_normalised_text_and_find_overlap() -> None:
    hashes = text_hashes(["Good film", "good  film", "bad film"])
    assert (hashes.dtype, hashes.shape) == (np.uint64, (3,))
    assert hashes[0] == hashes[1] != hashes[2]
    assert text_hashes([]).shape == (0,)
    refuse_overlap("new.csv", ["another"], hashes)
    with pytest.raises(DataError, match="2 of 3 texts to evaluate on are also in the training"):
        refuse_overlap("new.csv", ["GOOD FILM", "bad film ", "another"], hashes)


def test_a_fingerprint_follows_texts_and_labels() -> None:
    zero, one = np.array([0, 1]), np.array([1, 0])
    prints = {
        text_fingerprint(["a", "b"], ("x", "y"), zero),
        text_fingerprint(["a", "b"], ("x", "z"), zero),
        text_fingerprint(["a", "b"], ("x", "y"), one),
        text_fingerprint(["ab", ""], ("x", "y"), zero),
    }
    assert len(prints) == 4
    assert text_fingerprint(("a", "b"), ["x", "y"], zero) in prints
