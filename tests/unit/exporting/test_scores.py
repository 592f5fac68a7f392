"""Which output holds class scores: labels decide, then shape, sums and names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.exporting.answers import Reading
from edgeml.exporting.scores import find_scores

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4)).astype(np.float32)
SHARES = np.full((6, 4), 0.25, np.float32)
INSIDE = np.full((6, 4), 0.4, np.float32)
COLUMN = RNG.normal(0, 3, (6, 1)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 3, 0, 1])
TRUTHS = np.zeros((6, 4), dtype=bool)


@pytest.mark.parametrize(
    ("array", "targets", "form"),
    [
        (LOGITS, CLASSES, "softmax"),
        (SHARES, CLASSES, "probabilities"),
        (INSIDE, CLASSES, "softmax"),
        (LOGITS, TRUTHS, "sigmoid"),
        (INSIDE, TRUTHS, "independent"),
        (COLUMN, CLASSES % 2, "binary-sigmoid"),
        (COLUMN[:, 0], CLASSES % 2, "binary-sigmoid"),
        (np.full((6, 1), 0.3, np.float32), CLASSES % 2, "binary"),
    ],
)
def test_labels_decide_whatever_the_name(array: Any, targets: Any, form: str) -> None:
    found = find_scores({"y": array}, targets, wanted="auto")
    assert (found.scores, found.form) == ("y", form)
    assert find_scores({"y": array}, targets, wanted="values") == found


def test_labels_find_their_output_among_others() -> None:
    boxes = np.zeros((6, 3, 4), np.float32)
    outputs = {"boxes": boxes, "few": LOGITS[:, :2], "y": LOGITS}
    found = find_scores(outputs, CLASSES, wanted="auto")
    assert (found.scores, found.values) == ("y", ("boxes", "few"))
    outputs = {"hidden": LOGITS, "logits": LOGITS}
    assert find_scores(outputs, CLASSES, wanted="auto").scores == "logits"


@pytest.mark.parametrize(
    ("outputs", "scores"),
    [
        ({"y": SHARES}, "y"),
        ({"y": LOGITS}, ""),
        ({"logits": LOGITS}, "logits"),
        ({"class_scores": INSIDE}, "class_scores"),
        ({"probabilities": LOGITS[:, None]}, ""),
        ({"label": np.zeros((6, 4), np.int64)}, ""),
        ({"logits": LOGITS, "hidden": LOGITS}, ""),
    ],
)
def test_without_labels_sums_and_names_decide(outputs: dict[str, Any], scores: str) -> None:
    found = find_scores(outputs, None, wanted="auto")
    assert found.scores == scores
    assert set(found.values) == set(outputs) - {scores}


def test_a_wish_decides_where_there_are_no_labels() -> None:
    assert find_scores({"y": LOGITS}, None, wanted="classes").form == "softmax"
    assert find_scores({"y": SHARES}, None, wanted="values") == Reading(scores="", values=("y",))


def test_labels_that_fit_nothing_are_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match=r"the labels have 8 classes and no output has scores"):
        find_scores({"y": LOGITS}, np.array([0, 7]), wanted="auto")
    with pytest.raises(InputError, match=r"the labels have 3 classes .*'y' \(4,\)"):
        find_scores({"y": LOGITS}, TRUTHS[:, :3], wanted="auto")


def test_classes_that_no_output_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="no output is a table of class scores"):
        find_scores({"y": LOGITS[:, None]}, None, wanted="classes")
