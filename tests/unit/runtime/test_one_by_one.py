"""One sample at a time: right where neighbours would matter, and where the model takes one."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from edgeml.core.batching import takes_one, with_free_batch
from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import ClosedError, InferenceError, InputError, SignatureError
from edgeml.runtime.engine import OnnxEngine
from edgeml.runtime.one_by_one import OneByOne
from tests.tensors import COUPLED, ONE


def _engine(text: str) -> OnnxEngine:
    return OnnxEngine(onnx.parser.parse_model(text).SerializeToString())


def test_neighbours_do_not_matter(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3)).astype(np.float32)
    coupled = _engine(COUPLED)
    alone: Engine = OneByOne(coupled)
    assert np.abs(coupled.run({"x": x})["y"]).max() > 0.1
    answers = alone.run({"x": x})["y"]
    assert (answers.shape, np.abs(answers).max()) == ((4, 3), 0)
    assert isinstance(alone, Engine)
    assert alone.served_by == coupled.served_by


def test_a_model_of_one_sample_answers_several(rng: np.random.Generator) -> None:
    x = rng.uniform(1, 2, (5, 3)).astype(np.float32)
    engine = _engine(ONE)
    with pytest.raises(SignatureError):
        engine.run({"x": x})
    alone = OneByOne(engine)
    assert [spec.shape for spec in (*alone.signature.inputs, *alone.signature.outputs)] == [
        ("batch", 3),
        ("batch", 3),
    ]
    assert np.allclose(alone.run({"x": x})["y"], np.log(x))
    assert alone.run({"x": x[:1]})["y"].shape == (1, 3)
    for bad in (x[:0], x[:, :2], x.astype(np.float64)):
        with pytest.raises(SignatureError):
            alone.run({"x": bad})
    alone.close()
    alone.close()
    with pytest.raises(ClosedError):
        alone.run({"x": x})


def test_answers_of_different_shapes_cannot_be_joined() -> None:
    engine = _engine("""
    <ir_version: 10, opset_import: ["": 18]>
    found (float[batch, 3] x) => (int64[n, 2] places)
    { where = NonZero(x) places = Transpose<perm = [1, 0]>(where) }
    """)
    alone = OneByOne(engine)
    with pytest.raises(InferenceError, match=r"'places' have the shapes \(1, 2\) and \(3, 2\)"):
        alone.run({"x": np.array([[1, 1, 1], [0, 1, 0]], dtype=np.float32)})


def _signature(*shapes: tuple[int | str, ...]) -> ModelSignature:
    specs = (TensorSpec(name=f"x{i}", dtype="int64", shape=shape) for i, shape in enumerate(shapes))
    out = TensorSpec(name="y", dtype="int64", shape=(1,))
    return ModelSignature(inputs=tuple(specs), outputs=(out,))


def test_every_first_axis_becomes_one_free_axis() -> None:
    freed = with_free_batch(_signature((1, "n"), ("rows", 1), ("other",)))
    assert [spec.shape for spec in freed.inputs] == [("rows", "n"), ("rows", 1), ("rows",)]
    assert freed.outputs[0].shape == ("rows",)
    named = with_free_batch(_signature((1, "batch")))
    assert named.inputs[0].shape == ("batch_", "batch")
    with pytest.raises(InputError, match=r"'x1' is int64 \(4, 2\); a first axis that is free or 1"):
        with_free_batch(_signature((1, 2), (4, 2)))


def test_one_fixed_first_axis_is_enough_to_take_one() -> None:
    assert takes_one(_signature(("batch", 2), (1,)))
    assert not takes_one(_signature(("batch", 1), (2, 1)))
