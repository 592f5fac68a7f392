"""Samples on disk: a child process sees the very tensors that its parent has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeml.tasks.samples import ArraySamples, Samples, TensorSamples, TextSamples
from edgeml.tasks.text import EncodedText
from edgeml.workflows.stored_samples import fully_padded, read_samples, store_samples
from tests.unit.tasks.test_text import LENGTH, TASK

TEXTS = TextSamples(TASK, [EncodedText(np.arange(5, 5 + size), size == 4) for size in (3, 1, 4, 7)])
ARRAYS = TensorSamples(
    {
        "x": np.arange(12, dtype=np.float32).reshape(4, 3),
        "odd/name": np.array([True, False, True, True]),
        "n": np.arange(4, dtype=np.int64),
    },
    max_batch=1,
)
PICTURES = ArraySamples("image", np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3))


def _equal(ours: Samples, theirs: Samples, indices: list[int]) -> None:
    first, second = ours.feed(indices), theirs.feed(indices)
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


@pytest.mark.parametrize("made", [PICTURES, ARRAYS, TEXTS, TEXTS.padded(9)])
def test_samples_come_back_as_they_were(made: Samples, tmp_path: Path) -> None:
    store_samples(tmp_path / "s", made)
    again = read_samples(tmp_path / "s")
    assert type(again) is type(made)
    assert len(again) == 4
    assert again.groups() == made.groups()
    assert again.typical() == made.typical()
    for indices in ([0, 1, 2, 3], [3, 1], [2]):
        _equal(made, again, indices)


def test_the_contract_of_texts_comes_back(tmp_path: Path) -> None:
    store_samples(tmp_path / "s", TEXTS)
    again = read_samples(tmp_path / "s")
    assert isinstance(again, TextSamples)
    assert [text.truncated for text in again.texts] == [False, False, True, False]
    assert again.task.labels == TASK.labels
    assert again.task.preprocessing == TASK.preprocessing
    assert again.padded_to is None


def test_a_part_of_a_stored_array_is_stored_whole(tmp_path: Path) -> None:
    store_samples(tmp_path / "s", PICTURES.part(1, 3))
    _equal(PICTURES.part(1, 3), read_samples(tmp_path / "s"), [0, 1])


def test_only_texts_are_padded() -> None:
    padded = fully_padded(TEXTS)
    assert padded is not None
    assert padded.feed([0])["input_ids"].shape == (1, LENGTH)
    assert fully_padded(ARRAYS) is None
    assert fully_padded(PICTURES) is None


def test_a_folder_is_not_written_twice(tmp_path: Path) -> None:
    store_samples(tmp_path / "s", ARRAYS)
    with pytest.raises(FileExistsError):
        store_samples(tmp_path / "s", ARRAYS)
