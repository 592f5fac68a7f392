"""``edgeml.compare``: same tensors, same clock, whatever runs behind."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.core.fake import FakeEngine
from edgeml.core.signature import Tensors
from edgeml.core.timing import TimingPlan
from edgeml.errors import InputError, SignatureError
from edgeml.tasks.predictor import TaskPredictor
from tests.small import INPUT, OUTPUT, TASK
from tests.text_bundles import TEXT_LABELS, make_text_task

PLAN = TimingPlan(rounds=4, calls=1, warmup=1)
IMAGES = np.zeros((20, 8, 8, 3), dtype=np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(20) % 4
IMAGES[:, 0, 0, 1] = np.arange(20)
LABELS = (np.arange(20) % 4).astype(np.int64)


def _reader(name: str, *, wrong: int = 0) -> TaskPredictor:
    """A model that reads the class off the first pixel, and is wrong for the first few rows."""

    def answer(tensors: Tensors) -> dict[str, Any]:
        images = tensors[INPUT]
        classes = images[:, 0, 0, 0].astype(int)
        classes = np.where(images[:, 0, 0, 1] < wrong, (classes + 1) % 4, classes)
        return {OUTPUT: np.eye(4, dtype=np.float32)[classes]}

    return TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer, served_by=name))


def test_rows_say_who_answered_how_fast_and_how_well() -> None:
    rows = edgeml.compare(
        {"reference": _reader("one"), "candidate": _reader("two", wrong=3)},
        {INPUT: IMAGES},
        baseline="reference",
        labels=LABELS,
        plan=PLAN,
    )
    assert [(row.target, row.served_by) for row in rows] == [
        ("reference", "one"),
        ("candidate", "two"),
    ]
    assert [row.accuracy for row in rows] == [1.0, 0.85]
    assert [row.accuracy_drop for row in rows] == [0.0, pytest.approx(0.15)]
    assert rows[0].latency.speedup == 1.0
    value = json.loads(json.dumps(rows[1].to_json()))
    assert set(value) >= {"target", "served_by", "p50_ms", "p90_ms", "speedup", "accuracy"}


def test_without_labels_there_is_no_accuracy() -> None:
    (row,) = edgeml.compare({"one": _reader("one")}, {INPUT: IMAGES}, baseline="one", plan=PLAN)
    assert (row.accuracy, row.accuracy_drop) == (None, None)


def test_only_the_first_sample_is_timed() -> None:
    batches: list[int] = []

    def answer(tensors: Tensors) -> dict[str, Any]:
        batches.append(len(tensors[INPUT]))
        return {OUTPUT: np.full((len(tensors[INPUT]), 4), 0.25, dtype=np.float32)}

    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer))
    edgeml.compare({"one": predictor}, {INPUT: IMAGES}, baseline="one", plan=PLAN)
    assert batches == [1] * 5


def test_a_baseline_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="the baseline 'two' is none of one"):
        edgeml.compare({"one": _reader("one")}, {INPUT: IMAGES}, baseline="two")


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="19 labels were given for 20 samples"):
        edgeml.compare({"one": _reader("one")}, {INPUT: IMAGES}, baseline="one", labels=LABELS[1:])


def test_tensors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SignatureError):
        edgeml.compare({"one": _reader("one")}, {INPUT: IMAGES[..., :1]}, baseline="one", plan=PLAN)


TEXTS = ("the good film", "bad", "good", "the bad film", "good good")
RIGHT = np.array([1, 0, 1, 0, 1])


class _Reader:
    """A text model that reads the class off its words, and keeps what it was asked."""

    def __init__(self, name: str, *, wrong: str | None = None) -> None:
        task = make_text_task()
        vocabulary = {"bad": 2, "good": 3}
        self.asked: list[str] = []

        def answer(tensors: Tensors) -> dict[str, Any]:
            ids = tensors["input_ids"]
            good = (ids == vocabulary["good"]).any(axis=1).astype(int)
            scores = np.array([[0.75, 0.25], [0.25, 0.75]], dtype=np.float32)
            return {task.signature.outputs[0].name: scores[good]}

        class Noting(TaskPredictor):
            def predict(inner, item: Any) -> Any:  # noqa: N805
                self.asked.append(item)
                return super().predict("bad" if item == wrong else item)

        self.predictor = Noting(task, FakeEngine(task.signature, answer=answer, served_by=name))


def test_items_are_asked_in_the_same_order_of_all() -> None:
    one, other = _Reader("one"), _Reader("two")
    rows = edgeml.compare(
        {"one": one.predictor, "two": other.predictor}, TEXTS, baseline="one", plan=PLAN
    )
    assert one.asked == other.asked
    # One after the other, and from the first again.
    assert one.asked == [TEXTS[i % len(TEXTS)] for i in range(len(one.asked))]
    assert len(one.asked) == PLAN.warmup + PLAN.rounds * PLAN.calls
    assert [row.accuracy for row in rows] == [None, None]


def test_each_item_is_held_against_its_label() -> None:
    one, other = _Reader("one"), _Reader("two", wrong="good")
    rows = edgeml.compare(
        {"one": one.predictor, "two": other.predictor},
        list(TEXTS),
        baseline="one",
        labels=RIGHT,
        plan=PLAN,
    )
    assert TEXT_LABELS == ("bad", "good")
    assert [row.accuracy for row in rows] == [1.0, pytest.approx(0.8)]
    assert [row.accuracy_drop for row in rows] == [0.0, pytest.approx(0.2)]
    assert one.asked[: len(TEXTS)] == other.asked[: len(TEXTS)] == list(TEXTS)
    assert one.asked == other.asked


def test_items_that_have_not_a_label_each_are_refused() -> None:
    with pytest.raises(InputError, match="5 labels were given for 4 samples"):
        edgeml.compare(
            {"one": _Reader("one").predictor}, TEXTS[1:], baseline="one", labels=RIGHT, plan=PLAN
        )


def test_no_items_are_refused() -> None:
    with pytest.raises(InputError, match="no samples to compare on"):
        edgeml.compare({"one": _Reader("one").predictor}, [], baseline="one", plan=PLAN)
