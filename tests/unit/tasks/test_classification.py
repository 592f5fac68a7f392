"""From probabilities to labels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.errors import ModelOutputError
from edgeml.tasks.classification import ClassLabels

NAMES = ("cat", "dog", "owl")


def test_each_row_gets_its_best_label_and_all_scores() -> None:
    rows = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], dtype=np.float32)
    first, second = ClassLabels(names=NAMES).interpret(rows, served_by="ort/cpu/int8/3")
    assert (first.label, first.score, first.labels) == ("cat", 0.5, ())
    assert first.scores == {"cat": 0.5, "dog": 0.25, "owl": 0.25}
    assert (second.label, second.score, second.served_by) == ("owl", 0.75, "ort/cpu/int8/3")
    assert type(second.score) is float


def test_the_first_of_equals_wins() -> None:
    rows = np.array([[0.25, 0.375, 0.375]], dtype=np.float32)
    (answer,) = ClassLabels(names=NAMES).interpret(rows, served_by="")
    assert answer.label == "dog" == NAMES[int(rows[0].argmax())]


def test_several_labels_may_hold() -> None:
    labels = ClassLabels(names=NAMES, multi_label=True, threshold=0.25)
    rows = np.array([[0.25, 0.9, 0.2], [0.1, 0.2, 0.0]], dtype=np.float32)
    first, second = labels.interpret(rows, served_by="")
    assert (first.labels, first.label) == (("cat", "dog"), "dog")
    assert (second.labels, second.label) == ((), "dog")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    rows = np.full((4, 3), 1 / 3, dtype=np.float32)
    rows[2, 1] = value
    with pytest.raises(ModelOutputError) as caught:
        ClassLabels(names=NAMES).interpret(rows, served_by="")
    assert caught.value.tensor == "probabilities"


def test_infinities_that_cancel_are_refused() -> None:
    rows = np.array([[np.inf, -np.inf, 1.0]], dtype=np.float32)
    with pytest.raises(ModelOutputError):
        ClassLabels(names=NAMES).interpret(rows, served_by="")


def test_large_finite_numbers_are_numbers() -> None:
    rows = np.full((2, 3), np.finfo(np.float32).max, dtype=np.float32)
    assert len(ClassLabels(names=NAMES).interpret(rows, served_by="")) == 2
