"""The task ``tensor``: what an item may be, how items are grouped, what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import InferenceError, InputError, ModelOutputError, SignatureError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.opening import RUNNABLE, open_task
from edgeml.tasks.predictor import TaskPredictor
from edgeml.tasks.tensor import TensorTask


def _signature(batch: int | str = "batch") -> ModelSignature:
    return ModelSignature(
        inputs=(
            TensorSpec(name="x", dtype="float32", shape=(batch, "n", 2)),
            TensorSpec(name="ids", dtype="int64", shape=(batch, "n")),
            TensorSpec(name="scale", dtype="float32", shape=(batch,)),
        ),
        outputs=(
            TensorSpec(name="y", dtype="float32", shape=(batch, "n")),
            TensorSpec(name="total", dtype="float32", shape=(batch,)),
        ),
    )


TASK = TensorTask(signature=_signature())
ITEM: dict[str, Any] = {"x": [[1, 2], [3, 4], [5, 6]], "ids": np.array([1, 2, 3]), "scale": 0.5}


def _answer(tensors: Tensors) -> dict[str, Any]:
    y = tensors["x"].sum(axis=2) * tensors["ids"] * tensors["scale"][:, None]
    return {"y": y.astype(np.float32), "total": y.sum(axis=1).astype(np.float32)}


@pytest.mark.parametrize("batched", [False, True])
def test_a_sample_comes_with_or_without_a_batch_axis(batched: bool) -> None:
    item = {name: np.asarray(value)[None] if batched else value for name, value in ITEM.items()}
    feed = TASK.prepare(item)
    assert {name: (array.dtype.name, array.shape) for name, array in feed.items()} == {
        "x": ("float32", (1, 3, 2)),
        "ids": ("int64", (1, 3)),
        "scale": ("float32", (1,)),
    }
    assert feed["x"][0].tolist() == ITEM["x"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": [1.0, 2.0, 3.0]}, "'ids' is float64.*from float to integer"),
        ({"ids": [True, False, True]}, "from bool to integer"),
        ({"ids": [1, 2]}, "size 2 on axis 'n'"),
        ({"ids": 3}, r"'ids' is int64 \(\).*one sample of int64 \(batch, n\)"),
        ({"x": np.zeros((2, 3, 2))}, r"float32 \(2, 3, 2\).*one sample of"),
        ({"x": np.zeros((3, 3))}, r"\(1, 3, 3\)"),
        ({"x": [[1, 2], [np.nan, 4], [5, 6]]}, "holds NaN"),
        ({"x": [[1], [1, 2]]}, "no array"),
        ({"x": None}, "is object"),
        ({"y": 3}, "'y' is not an input"),
        ({7: 3}, "'7' is not an input"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change: dict[Any, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TASK.prepare({**ITEM, **change})


@pytest.mark.parametrize("item", [None, b"", "x", 3, [1, 2], np.zeros(3)], ids=repr)
def test_what_is_no_mapping_is_refused(item: Any) -> None:
    with pytest.raises(InputError, match="a mapping from input name to array was expected, with"):
        TASK.prepare(item)


def test_a_missing_input_is_refused() -> None:
    with pytest.raises(SignatureError, match="'scale' is missing"):
        TASK.prepare({name: ITEM[name] for name in ("x", "ids")})


def _sized(length: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(length, 2)), "ids": np.arange(length), "scale": 1 + seed}


def test_equal_shapes_share_a_feed_of_at_most_thirty_two() -> None:
    prepared = [TASK.prepare(_sized(3 if index % 3 else 5)) for index in range(120)]
    groups = TASK.batches(prepared)
    assert sorted(index for group in groups for index in group) == list(range(120))
    assert sorted(map(len, groups)) == [8, 16, 32, 32, 32]
    for group in groups:
        feed = TASK.collate([prepared[index] for index in group])
        assert TASK.signature.check_inputs(feed) == len(group)


def test_a_model_of_one_sample_gets_one_at_a_time() -> None:
    task = TensorTask(signature=_signature(1))
    assert task.batches([task.prepare(ITEM)] * 3) == [[0], [1], [2]]


@pytest.mark.parametrize("batch", ["batch", 1])
def test_a_predictor_answers_each_item_and_its_neighbours_are_unharmed(batch: Any) -> None:
    signature = _signature(batch)
    engine = FakeEngine(signature, answer=_answer)
    with TaskPredictor(TensorTask(signature=signature), engine) as predictor:
        good, other = _sized(3, 1), _sized(4, 2)
        bad = {**good, "ids": [1, 2]}
        rows = predictor.predict_batch([good, bad, other, None, good], on_error="return")
        alone = predictor.predict(other)
    assert [isinstance(row, Prediction) for row in rows] == [True, False, True, False, True]
    assert isinstance(rows[2], Prediction)
    assert rows[2].outputs is not None
    assert alone.outputs is not None
    assert np.array_equal(rows[2].outputs["y"], alone.outputs["y"])
    expected = (other["x"].sum(axis=1) * other["ids"] * 3).astype(np.float32)
    assert np.allclose(alone.outputs["y"], expected)
    assert (alone.label, alone.score, alone.scores) == (None, 0.0, {})
    assert alone.served_by == "fake/cpu/fp32/1"


def test_outputs_come_without_the_batch_axis() -> None:
    outputs = {"y": np.ones((2, 3), np.float32), "total": np.array([4, 5], np.int64)}
    first, second = TASK.interpret(outputs, served_by="me")
    assert first.outputs is not None
    assert second.outputs is not None
    assert first.outputs["y"].shape == (3,)
    assert isinstance(second.outputs["total"], np.ndarray)
    assert (second.outputs["total"].shape, int(second.outputs["total"])) == ((), 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_by_name(value: float) -> None:
    outputs = {"y": np.ones((2, 3)), "total": np.array([1.0, value])}
    with pytest.raises(ModelOutputError, match="output 'total' holds NaN or infinity"):
        TASK.interpret(outputs, served_by="me")


def test_outputs_of_different_lengths_are_refused() -> None:
    outputs = {"y": np.ones((2, 3)), "total": np.ones(5)}
    with pytest.raises(InferenceError, match="'y' 2, 'total' 5"):
        TASK.interpret(outputs, served_by="me")


def test_a_golden_sample_survives_its_file() -> None:
    again = TASK.prepare(TASK.decode_golden(TASK.encode_golden(ITEM)))
    for name, array in TASK.prepare(ITEM).items():
        assert np.array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    with pytest.raises(InputError, match="neither"):
        TASK.decode_golden(b"no archive")
    with pytest.raises(SignatureError):
        TASK.encode_golden({"x": 1})


def test_the_contract_opens_it() -> None:
    assert "tensor" in RUNNABLE
    task = open_task(
        "tensor", {}, ClassLabels(names=()), tokenizer=lambda: b"", signature=_signature()
    )
    assert task == TASK
    assert task.window == 32
    assert not task.is_truncated(task.prepare(ITEM))
