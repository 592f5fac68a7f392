"""Quantizers that need no calibration: smaller files, nearly the same answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgeml.errors import ExportError
from edgeml.exporting.building import _count_weighted
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.weight_quantizing import (
    DynamicRecipe,
    WeightRecipe,
    quantize_at_run_time,
    quantize_weights,
)
from tests.unit.exporting.cores import operators, run

_PRODUCTS = """<ir_version: 10, opset_import: ["": 18]>
m (float[batch, 64] x) => (float[batch, 64] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v) }
"""
_RECURRENT = """<ir_version: 10, opset_import: ["": 18]>
m (float[steps, 1, 16] x) => (float[steps, one, 1, 32] y)
{ y = LSTM<hidden_size = 32>(x, w, r) }
"""


def _model(text: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(text)
    for name, shape in shapes.items():
        values = rng.normal(0, 0.1, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model)
    return model


def _products() -> onnx.ModelProto:
    return _model(_PRODUCTS, w=(64, 64), v=(64, 64))


def _apart(model: onnx.ModelProto, made: onnx.ModelProto, *shape: int) -> float:
    feed = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    exact = run(model, feed)
    return float(np.linalg.norm(run(made, feed) - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize(("bits", "error", "share"), [(8, 0.02, 0.35), (4, 0.2, 0.25)])
def test_weights_in_few_bits_are_small_and_near(bits: int, error: float, share: float) -> None:
    core = _products()
    made = quantize_weights(core, WeightRecipe(bits=bits))
    assert operators(made).count("MatMulNBits") == 2
    assert 0 < _apart(core, made, 3, 64) < error
    assert made.ByteSize() < share * core.ByteSize()
    assert operators(core) == ["MatMul", "Relu", "MatMul"]  # it was not changed
    assert prove_fusion(made, core, num_requested=2).ok


def test_linear_layers_are_quantized_at_run_time() -> None:
    core = _products()
    made = quantize_at_run_time(core, DynamicRecipe(op_types=("MatMul",)))
    assert "MatMulInteger" in operators(made)
    assert 0 < _apart(core, made, 3, 64) < 0.05


def test_recurrent_layers_are_quantized_at_run_time() -> None:
    core = _model(_RECURRENT, w=(1, 128, 16), r=(1, 128, 32))
    recipe = DynamicRecipe(op_types=("LSTM", "MatMul"))
    made = quantize_at_run_time(core, recipe)
    assert "DynamicQuantizeLSTM" in operators(made)
    assert 0 < _apart(core, made, 4, 1, 16) < 0.1
    proof = prove_fusion(made, core, op_types=recipe.op_types)
    assert (proof.requested, proof.ok) == (1, True)


def test_a_quantizer_that_fails_is_an_export_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("no such tensor")

    monkeypatch.setattr("edgeml.exporting.weight_quantizing.quantize_dynamic", fail)
    with pytest.raises(ExportError, match="no such tensor"):
        quantize_at_run_time(_products(), DynamicRecipe(op_types=("MatMul",)))


@pytest.mark.parametrize("recipe", [DynamicRecipe(op_types=("LSTM",)), WeightRecipe(bits=4)])
def test_recipes_are_json(recipe: DynamicRecipe | WeightRecipe) -> None:
    assert json.dumps(recipe.to_json())


def test_products_of_two_activations_are_not_expected_to_run_quantized() -> None:
    core = _products()
    core.graph.node.extend([onnx.helper.make_node("MatMul", ["x", "x"], ["square"])])
    assert _count_weighted(core, ("MatMul",)) == 2
    assert _count_weighted(core, ("LSTM",)) == 0
