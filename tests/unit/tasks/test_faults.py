"""Who is at fault: the engine, or what it was given; for any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Prediction
from edgeml.core.signature import Tensors
from edgeml.errors import EdgemlError, InferenceError, InputError, ModelOutputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.faults import unless_all_fail
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor

TASK = ImageTask(
    preprocessing=ImagePreprocessing(height=2, width=2), labels=ClassLabels(names=("a", "b"))
)
GOOD, BAD = (np.full((2, 2, 3), value, dtype=np.uint8) for value in (1, 255))
THREADS = pytest.mark.parametrize("threads", [1, 2, 4, 8])


def _refuse_bright(feed: Tensors) -> dict[str, Any]:
    if (feed["image"] == 255).any():
        raise InferenceError(reason="too bright")
    return {"probabilities": np.tile(np.float32([0.25, 0.75]), (len(feed["image"]), 1))}


def _predictor(threads: int) -> TaskPredictor:
    engine = FakeEngine(TASK.signature, answer=_refuse_bright)
    return TaskPredictor(TASK, engine, prepare_threads=threads)


def _kinds(answers: list[Any]) -> str:
    return "".join("." if isinstance(row, Prediction) else "!" for row in answers)


@THREADS
def test_an_engine_that_computes_nothing_is_at_fault(threads: int) -> None:
    for count in (2, 4, 33, 70):
        with pytest.raises(InferenceError, match="too bright"):
            _predictor(threads).predict_batch([BAD] * count, on_error="return")


@THREADS
def test_one_item_that_cannot_be_computed_is_an_error_in_its_place(threads: int) -> None:
    answers = _predictor(threads).predict_batch([BAD], on_error="return")
    assert [type(row) for row in answers] == [InferenceError]


@THREADS
@pytest.mark.parametrize("shown", ["!!..", "..!!", "." * 16 + "!" * 8 + "." * 16])
def test_neighbours_that_cannot_be_computed_cost_nobody_else_an_answer(
    threads: int, shown: str
) -> None:
    items = [BAD if sign == "!" else GOOD for sign in shown]
    assert _kinds(_predictor(threads).predict_batch(items, on_error="return")) == shown


@THREADS
def test_an_engine_that_stops_computing_is_at_fault_after_a_windows_length(threads: int) -> None:
    stream = _predictor(threads).predict_stream([GOOD] * 40 + [BAD] * 60, on_error="return")
    rows: list[Any] = []
    with pytest.raises(InferenceError):
        rows.extend(stream)
    assert _kinds(rows) == "." * len(rows)


@THREADS
def test_the_work_has_ended_when_the_engine_is_found_at_fault(threads: int) -> None:
    before = threading.active_count()
    with pytest.raises(InferenceError) as caught:
        _predictor(threads).predict_batch([BAD] * 200, on_error="return")
    assert caught.value.__traceback__ is not None  # whoever keeps the error keeps no threads
    assert threading.active_count() == before


BROKEN, UNFIT, NAN = InferenceError(reason="x"), InputError("x"), ModelOutputError(tensor="x")
RIGHT = Prediction(label="a")


def test_items_that_never_reached_the_engine_say_nothing_of_it() -> None:
    assert list(unless_all_fail([UNFIT] * 9, 3)) == [UNFIT] * 9
    assert list(unless_all_fail([UNFIT, BROKEN, UNFIT], 3)) == [UNFIT, BROKEN, UNFIT]
    with pytest.raises(InferenceError):
        list(unless_all_fail([BROKEN, UNFIT, BROKEN], 3))


def test_a_model_that_answers_with_nan_computes() -> None:
    rows = [BROKEN, BROKEN, NAN, BROKEN, BROKEN]
    assert list(unless_all_fail(rows, 3)) == rows


def test_what_is_held_back_is_bounded() -> None:
    read: list[EdgemlError] = []

    def rows() -> Iterator[EdgemlError]:
        for row in [BROKEN, *[UNFIT] * 1000]:
            read.append(row)
            yield row

    assert next(unless_all_fail(rows(), 4)) is BROKEN
    assert len(read) == 4
    assert next(unless_all_fail([RIGHT, BROKEN, BROKEN], 4)) is RIGHT
