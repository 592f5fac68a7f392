"""Samples in arrays: feeds, groups, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.tasks.samples import ArraySamples, Samples, TensorSamples

INPUTS = {"x": np.arange(140).reshape(70, 2), "ids": np.arange(70)}


@pytest.mark.parametrize(
    ("max_batch", "sizes"), [(None, [32, 32, 6]), (1, [1] * 70), (64, [64, 6]), (70, [70])]
)
def test_groups_hold_each_sample_once(max_batch: int | None, sizes: list[int]) -> None:
    samples: Samples = TensorSamples(INPUTS, max_batch=max_batch)
    groups = samples.groups()
    assert [len(group) for group in groups] == sizes
    assert [index for group in groups for index in group] == list(range(70))
    assert samples.first(3).groups() == ([[0], [1], [2]] if max_batch == 1 else [[0, 1, 2]])


def test_a_feed_has_the_samples_asked_for_in_their_order() -> None:
    samples = TensorSamples(INPUTS)
    feed = samples.feed([5, 3, 3])
    assert feed["ids"].tolist() == [5, 3, 3]
    assert feed["x"][:, 0].tolist() == [10, 6, 6]
    run = samples.feed([4, 5, 6])
    assert run["ids"].tolist() == [4, 5, 6]
    assert all(np.shares_memory(run[name], INPUTS[name]) for name in INPUTS)
    assert (len(samples), samples.typical(), len(samples.first(9))) == (70, 0, 9)


def test_one_array_is_the_same() -> None:
    samples = ArraySamples("x", INPUTS["x"])
    assert samples.groups() == TensorSamples({"x": INPUTS["x"]}).groups()
    assert samples.feed([2, 1])["x"].tolist() == [[4, 5], [2, 3]]
    assert (samples.name, len(samples.first(3).array)) == ("x", 3)


def test_what_is_no_samples_is_refused() -> None:
    with pytest.raises(InputError, match="'x' 70, 'ids' 3"):
        TensorSamples({**INPUTS, "ids": np.arange(3)})
    with pytest.raises(InputError, match="no input"):
        TensorSamples({})
    with pytest.raises(InputError, match="max_batch is 0"):
        TensorSamples(INPUTS, max_batch=0)


def test_large_samples_share_a_feed_with_fewer() -> None:
    large = np.zeros((10, 3, 512, 512), np.float32)  # three megabytes each
    assert [len(group) for group in ArraySamples("x", large).groups()] == [1] * 10
    half = TensorSamples({"a": large[:, :1], "b": large[:, :1]})  # two megabytes together
    assert [len(group) for group in half.groups()] == [2] * 5
    assert sorted(place for group in half.groups() for place in group) == list(range(10))


def test_rows_of_a_large_set_are_not_copied_for_a_part() -> None:
    whole = np.arange(10.0)[:, None]
    samples = TensorSamples({"x": whole}, rows=np.array([7, 3, 5]))
    assert len(samples) == 3
    np.testing.assert_array_equal(samples.feed([0, 2])["x"], [[7.0], [5.0]])
    np.testing.assert_array_equal(samples.part(1, 3).feed([0, 1])["x"], [[3.0], [5.0]])
    assert samples.inputs["x"] is whole
