"""What the one predictor adds to an engine: chunks, positions, errors that stay in their place."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Prediction
from edgeml.core.signature import Tensors
from edgeml.errors import ClosedError, InputError, ModelOutputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor

TASK = ImageTask(
    preprocessing=ImagePreprocessing(height=2, width=2),
    labels=ClassLabels(names=tuple("abcdefgh")),
)


def _picture(value: int) -> np.ndarray[Any, Any]:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def _nan_above_200(feed: Tensors) -> dict[str, Any]:
    """A model that breaks on bright pictures, and else answers with the picture's first value."""
    values = feed["image"].reshape(len(feed["image"]), -1)[:, 0]
    rows = np.zeros((len(values), 8), dtype=np.float32)
    rows[np.arange(len(values)), values % 8] = 1
    rows[values > 200] = np.nan
    return {"probabilities": rows}


def test_no_more_than_a_chunk_is_in_memory_at_once() -> None:
    sizes = []

    def answer(feed: Tensors) -> dict[str, Any]:
        sizes.append(len(feed["image"]))
        return _nan_above_200(feed)

    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer))
    answers = predictor.predict_batch([_picture(value) for value in range(100)])
    assert [answer.label for answer in answers] == ["abcdefgh"[value % 8] for value in range(100)]
    assert sum(sizes) == 100
    assert max(sizes) <= 32


def test_a_chunk_of_bad_items_never_reaches_the_engine() -> None:
    reached: list[Tensors] = []
    engine = FakeEngine(TASK.signature, answer=lambda feed: reached.append(feed) or {})
    answers = TaskPredictor(TASK, engine).predict_batch([None] * 40, on_error="return")
    assert [type(answer) for answer in answers] == [InputError] * 40
    assert reached == []


def test_the_first_bad_item_is_named_by_its_place_in_the_whole_batch() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    with pytest.raises(InputError) as caught:
        predictor.predict_batch([_picture(1)] * 50 + [None, b""])
    assert caught.value.__notes__ == ["item 50 of the batch"]


def test_nan_for_one_picture_is_an_error_for_that_picture_only() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    values = [1, 255, None, 3, 201, 200]
    items = [None if value is None else _picture(value) for value in values]
    answers = predictor.predict_batch(items, on_error="return")
    assert [type(answer) for answer in answers] == [
        Prediction, ModelOutputError, InputError, Prediction, ModelOutputError, Prediction,
    ]  # fmt: skip
    labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
    assert labels == ["b", "d", "a"]


def test_nan_raises_unless_errors_are_to_be_returned() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    for call in (
        lambda: predictor.predict(_picture(255)),
        lambda: predictor.predict_batch([_picture(1), _picture(255)]),
        lambda: predictor.predict_tensors({"image": _picture(255)[None]}),
    ):
        with pytest.raises(ModelOutputError):
            call()


def test_raw_outputs_are_raw() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    outputs = predictor.run({"image": _picture(255)[None]})
    assert np.isnan(outputs["probabilities"]).all()


def test_closing_while_a_call_is_under_way_lets_it_finish() -> None:
    entered, release = threading.Event(), threading.Event()

    def answer(feed: Tensors) -> dict[str, Any]:
        entered.set()
        assert release.wait(timeout=30)
        return _nan_above_200(feed)

    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer))
    answers: list[Prediction] = []
    thread = threading.Thread(target=lambda: answers.append(predictor.predict(_picture(2))))
    thread.start()
    assert entered.wait(timeout=30)
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.predict(_picture(1))
    release.set()
    thread.join(timeout=30)
    assert [answer.label for answer in answers] == ["c"]


def test_the_engine_is_closed_with_its_predictor() -> None:
    engine = FakeEngine(TASK.signature)
    TaskPredictor(TASK, engine).close()
    with pytest.raises(ClosedError):
        engine.run({"image": _picture(1)[None]})


@pytest.mark.parametrize("items", ["photo.jpg", b"\x89PNG", bytearray(3)], ids=type)
def test_one_item_is_no_batch(items: Any) -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    with pytest.raises(InputError, match="a list was expected"):
        predictor.predict_batch(items, on_error="return")


def test_a_generator_is_a_batch() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    assert len(predictor.predict_batch(_picture(value) for value in range(3))) == 3
