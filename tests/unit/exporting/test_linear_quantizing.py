"""Integer linear layers: errors within half a step, rows that know nothing of each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from onnx import numpy_helper

from edgeml.errors import ExportError
from edgeml.exporting.linear_quantizing import (
    LinearRecipe,
    linear_inputs,
    linear_products,
    quantize_columns,
    quantize_linear_layers,
    scale_of,
)
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, IntegerTypes
from edgeml.exporting.ranges import Range, collect_histograms, ranges_of
from tests.unit.exporting.cores import operators, run

WIDTH, WORDS = 16, 1200
# Two products read one tensor; one has a bias, one has not; one is left in front of a Relu.
ENCODER = """
<ir_version: 10, opset_import: ["": 18]>
core (int64[batch, tokens] ids) => (float[batch, tokens, 16] answer)
{
    rows = Gather(table, ids)
    q_product = MatMul(rows, wq)
    q = Add(bq, q_product)
    k = MatMul(rows, wk)
    joined = Mul(q, k)
    active = Relu(joined)
    o_product = MatMul(active, wo)
    o = Add(o_product, bo)
    answer = Add(o, rows)
}
"""
PLAIN = TYPES_BY_INSTRUCTION_SET["avx_vnni"]
REDUCED = TYPES_BY_INSTRUCTION_SET["avx2"]
SIGNED = TYPES_BY_INSTRUCTION_SET["dotprod"]
matrices = arrays_of.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


def encoder(*, words: int = WORDS, seed: int = 3) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {"table": rng.normal(0, 1, (words, WIDTH))}
    values |= {name: rng.normal(0, 0.3, (WIDTH, WIDTH)) for name in ("wq", "wk", "wo")}
    values |= {name: rng.normal(0, 0.5, WIDTH) for name in ("bq", "bo")}
    model = onnx.parser.parse_model(ENCODER)
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()
    )
    for node in model.graph.node:
        node.name = f"node/{node.output[0]}"
    onnx.checker.check_model(model)
    return model


def feeds(count: int = 12, *, seed: int = 5, words: int = WORDS) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"ids": rng.integers(0, words, (1, 2 + n))} for n in range(count)]


def ranges(model: onnx.ModelProto, *, words: int = WORDS) -> dict[str, Range]:
    histograms = collect_histograms(model, linear_inputs(model), feeds(words=words))
    return ranges_of(histograms, percent=100.0)


def quantized(model: onnx.ModelProto, types: IntegerTypes = PLAIN, **options: Any) -> Any:
    made = quantize_linear_layers(model, LinearRecipe(types=types, **options), ranges(model))
    onnx.checker.check_model(made)
    return made


def constants(model: onnx.ModelProto) -> Mapping[str, np.ndarray[Any, Any]]:
    return {row.name: numpy_helper.to_array(row) for row in model.graph.initializer}


@given(matrices, st.booleans())
def test_a_column_is_off_by_half_a_step_at_most(
    weights: np.ndarray[Any, Any], reduce_range: bool
) -> None:
    integers, scales = quantize_columns(weights, reduce_range=reduce_range)
    assert (integers.dtype, scales.dtype, scales.shape) == (np.int8, np.float32, weights.shape[1:])
    assert np.abs(integers.astype(int)).max() <= (63 if reduce_range else 127)
    error = np.abs(integers.astype(np.float64) * scales - weights)
    assert (error <= scales / 2 * (1 + 1e-4)).all()


def test_each_column_has_its_own_scale() -> None:
    weights = np.array([[100.0, 0.01, 0.0], [-50.0, 0.005, 0.0]], dtype=np.float32)
    integers, scales = quantize_columns(weights, reduce_range=False)
    np.testing.assert_array_equal(integers[0], [127, 127, 0])
    np.testing.assert_allclose(scales[:2], [100 / 127, 0.01 / 127], rtol=1e-6)


@given(st.floats(-1e5, 0), st.floats(0, 1e5), st.sampled_from(["uint8", "int8"]))
def test_a_range_fits_into_eight_bits_and_zero_is_exact(low: float, high: float, kind: str) -> None:
    scale, zero = scale_of(Range(low=low, high=high), kind)
    least, most = (0, 255) if kind == "uint8" else (-127, 127)
    assert scale > 0
    assert least <= zero <= most
    for value in (low, high):
        step = round(value / scale) + zero
        # The zero point itself is rounded: half a step may be lost at an end.
        assert abs(np.clip(step, least, most) - step) <= 1
    if kind == "int8":
        assert zero == 0


def test_products_take_integers_and_give_floats() -> None:
    model = encoder()
    assert linear_inputs(model) == ["rows", "active"]
    assert linear_products(model) == ["node/q_product", "node/k", "node/o_product"]
    before = model.SerializeToString()
    made = quantized(model)
    assert model.SerializeToString() == before
    found = operators(made)
    assert found.count("MatMulIntegerToFloat") == 3
    assert found.count("MatMul") == 0
    # Two products read the rows: they are converted once.
    assert found.count("QuantizeLinear") == 2
    assert "DequantizeLinear" not in found


def test_answers_stay_close() -> None:
    model = encoder()
    made = quantized(model)
    for feed in feeds(seed=8):
        exact = run(model, feed)
        assert np.abs(run(made, feed) - exact).max() < 0.05 * np.abs(exact).max()


def test_a_bias_goes_into_its_product() -> None:
    made = quantized(encoder())
    products = {
        node.output[0]: node for node in made.graph.node if node.op_type == "MatMulIntegerToFloat"
    }
    assert {name: node.input[6:] for name, node in products.items()} == {
        "q": ["bq"],
        "k": [],
        "o": ["bo"],
    }
    # The residual is no constant: it stays an addition.
    assert operators(made).count("Add") == 1


@pytest.mark.parametrize(
    "bias", [np.zeros((1, 1, WIDTH)), np.zeros(1), np.zeros(())], ids=lambda b: str(b.shape)
)
def test_what_is_no_vector_of_a_products_width_stays_an_addition(bias: Any) -> None:
    model = encoder()
    for row in model.graph.initializer:
        if row.name == "bo":
            row.CopyFrom(numpy_helper.from_array(bias.astype(np.float32) + 0.25, "bo"))
    made = quantized(model)
    assert operators(made).count("Add") == 2
    feed = feeds(3)[2]
    np.testing.assert_allclose(run(made, feed), run(model, feed), atol=0.3)


def test_a_product_that_others_read_keeps_its_addition() -> None:
    model = encoder()
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(
            "o_product", onnx.TensorProto.FLOAT, ["batch", "tokens", WIDTH]
        )
    )
    made = quantized(model)
    assert operators(made).count("Add") == 2
    assert {"o_product"} <= {name for node in made.graph.node for name in node.output}


@pytest.mark.parametrize("types", [PLAIN, REDUCED, SIGNED], ids=["u8", "u8-reduced", "s8"])
def test_a_row_alone_is_the_row_in_a_batch(types: IntegerTypes, rng: np.random.Generator) -> None:
    made = quantized(encoder(), types)
    ids = rng.integers(0, WORDS, (6, 7))
    together = run(made, {"ids": ids})
    for index in range(6):
        alone = run(made, {"ids": ids[index : index + 1]})
        np.testing.assert_allclose(alone[0], together[index], atol=1e-6)
        # Nor does a token know of the tokens after it.
        short = run(made, {"ids": ids[index : index + 1, :3]})
        np.testing.assert_allclose(short[0], together[index, :3], atol=1e-6)


def test_dynamic_ranges_come_from_the_batch_at_hand(rng: np.random.Generator) -> None:
    model = encoder()
    recipe = LinearRecipe(types=PLAIN, activations="dynamic", num_samples=0)
    made = quantize_linear_layers(model, recipe)
    assert operators(made).count("DynamicQuantizeLinear") == 2
    assert operators(made).count("MatMulIntegerToFloat") == 3
    assert "QuantizeLinear" not in operators(made)
    ids = rng.integers(0, WORDS, (6, 7))
    exact, together = run(model, {"ids": ids}), run(made, {"ids": ids})
    assert np.abs(together - exact).max() < 0.05 * np.abs(exact).max()
    alone = np.concatenate([run(made, {"ids": row[None]}) for row in ids])
    assert np.abs(alone - together).max() > 1e-4


def test_a_large_table_is_stored_as_integers() -> None:
    model = encoder()
    made = quantized(model)
    held = constants(made)
    assert "table" not in held
    (table,) = [value for value in held.values() if value.shape == (WORDS, WIDTH)]
    assert table.dtype == np.int8
    exact = constants(model)["table"]
    looked_up = onnx.ModelProto()
    looked_up.CopyFrom(made)
    del looked_up.graph.output[:]
    looked_up.graph.output.append(
        onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None)
    )
    ids = np.arange(WORDS)[None]
    step = np.abs(exact).max(axis=1, keepdims=True) / 127
    error = np.abs(run(looked_up, {"ids": ids})[0] - exact)
    assert (error <= step / 2 * (1 + 1e-4)).all()
    assert len(made.SerializeToString()) < 0.4 * len(model.SerializeToString())


@pytest.mark.parametrize(
    ("words", "options"), [(WORDS, {"embeddings": False}), (900, {})], ids=["not-asked", "small"]
)
def test_other_tables_stay_float(words: int, options: dict[str, Any]) -> None:
    model = encoder(words=words)
    recipe = LinearRecipe(types=PLAIN, **options)
    made = quantize_linear_layers(model, recipe, ranges(model, words=words))
    assert constants(made)["table"].dtype == np.float32


def test_named_nodes_stay_float() -> None:
    model = encoder()
    made = quantized(model, float_nodes=("node/k", "node/o_product"))
    found = operators(made)
    assert (found.count("MatMul"), found.count("MatMulIntegerToFloat")) == (2, 1)
    assert {"wk", "wo"} <= set(constants(made))
    assert "wq" not in constants(made)


@pytest.mark.parametrize(
    ("types", "kind", "most"),
    [(PLAIN, np.uint8, 127), (REDUCED, np.uint8, 63), (SIGNED, np.int8, 127)],
    ids=["u8", "u8-reduced", "s8"],
)
def test_types_are_the_machines(types: IntegerTypes, kind: Any, most: int) -> None:
    model = encoder()
    made = quantized(model, types)
    held = constants(made)
    readers = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
    zeros = {node.input[0]: held[node.input[2]] for node in readers}
    assert {zero.dtype for zero in zeros.values()} == {np.dtype(kind)}
    if kind is np.int8:
        assert {int(zero) for zero in zeros.values()} == {0}
    else:
        assert int(zeros["rows"]) > 100  # about as many below zero as above
        assert int(zeros["active"]) == 0  # after a Relu
    products = [node for node in made.graph.node if node.op_type == "MatMulIntegerToFloat"]
    weights = [held[node.input[1]] for node in products]
    assert {value.dtype for value in weights} == {np.dtype(np.int8)}
    assert max(int(np.abs(value.astype(int)).max()) for value in weights) == most


def test_a_graph_without_linear_layers_is_refused() -> None:
    model = encoder()
    with pytest.raises(ExportError, match="no MatMul with constant weights"):
        quantized(model, float_nodes=tuple(linear_products(model)))


def test_a_recipe_is_json() -> None:
    value = LinearRecipe(types=PLAIN, percent=99.9, num_samples=7).to_json()
    assert json.loads(json.dumps(value))["percent"] == 99.9
    assert (value["kind"], value["activations"]) == ("linear", "static")
