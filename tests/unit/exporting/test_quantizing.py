"""INT8: the types that a machine needs, real calibration, and a proof that it runs quantized."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgeml.errors import ExportError
from edgeml.exporting.fusion import optimised, prove_fusion
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    IntegerTypes,
    StaticRecipe,
    early_convolutions,
    quantize_core,
)
from tests.small import parse
from tests.unit.exporting.cores import convolutions, operators, run, softmax

U8S8 = IntegerTypes(activations="uint8", weights="int8", reduce_range=False)
S8S8 = IntegerTypes(activations="int8", weights="int8", reduce_range=False)


@pytest.fixture
def samples(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.6, (40, 3, 8, 8)).clip(-1, 1).astype(np.float32)


def test_every_instruction_set_has_types_that_it_multiplies_fast() -> None:
    # x86 multiplies unsigned by signed; without VNNI sums of 16 bits saturate, so seven bits.
    expected = {
        "amx_int8": U8S8,
        "avx512_vnni": U8S8,
        "avx_vnni": U8S8,
        "avx512": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
        "avx2": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
        "generic": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
        "i8mm": S8S8,
        "dotprod": S8S8,
    }
    assert dict(TYPES_BY_INSTRUCTION_SET) == expected


def _zero_points(model: onnx.ModelProto, kind: str) -> set[int]:
    """Element types of the zero points of one kind of node."""
    types = {row.name: row.data_type for row in model.graph.initializer}
    return {types[node.input[2]] for node in model.graph.node if node.op_type == kind}


@pytest.mark.parametrize(
    "types", [U8S8, S8S8], ids=lambda types: f"{types.activations}-{types.weights}"
)
def test_the_graph_has_the_types_that_were_asked_for(
    types: IntegerTypes, samples: np.ndarray
) -> None:
    model = quantize_core(convolutions(), samples, StaticRecipe(types=types))
    activations = TensorProto.UINT8 if types.activations == "uint8" else TensorProto.INT8
    assert _zero_points(model, "QuantizeLinear") == {activations}
    weights = [row for row in model.graph.initializer if row.name.startswith("w1_quantized")]
    assert [row.data_type for row in weights] == [TensorProto.INT8]
    # One scale for each output channel.
    (scale,) = [row for row in model.graph.initializer if row.name == "w1_scale"]
    assert list(scale.dims) == [6]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("pixels", "logits")


def test_seven_bits_where_sixteen_would_saturate(samples: np.ndarray) -> None:
    largest = {}
    for reduce_range in (False, True):
        types = IntegerTypes(activations="uint8", weights="int8", reduce_range=reduce_range)
        model = quantize_core(convolutions(), samples, StaticRecipe(types=types))
        (row,) = [r for r in model.graph.initializer if r.name == "w1_quantized"]
        largest[reduce_range] = int(np.abs(onnx.numpy_helper.to_array(row).astype(int)).max())
    assert largest[False] == 127
    assert largest[True] <= 64


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
def test_answers_stay_close(calibration: str, samples: np.ndarray) -> None:
    core = convolutions()
    recipe = StaticRecipe(types=U8S8, calibration=calibration, num_samples=24)
    model = quantize_core(core, samples, recipe)
    exact, got = (softmax(run(one, {"pixels": samples})) for one in (core, model))
    assert np.abs(exact - got).max() < 0.1
    assert not np.array_equal(exact, got)


def test_only_so_many_samples_calibrate(samples: np.ndarray) -> None:
    wild = samples.copy()
    wild[10:] *= 50
    few = StaticRecipe(types=U8S8, num_samples=10)
    one, other = (quantize_core(convolutions(), rows, few) for rows in (samples, wild))
    assert one.SerializeToString() == other.SerializeToString()
    more = StaticRecipe(types=U8S8, num_samples=20)
    assert quantize_core(convolutions(), wild, more).SerializeToString() != one.SerializeToString()


def test_the_contract_fixes_the_inputs_scale(samples: np.ndarray) -> None:
    recipe = StaticRecipe(types=U8S8, input_scale=(1 / 128, 127))
    model = quantize_core(convolutions(), samples / 2, recipe)
    (node,) = [n for n in model.graph.node if n.input[0] == "pixels"]
    values = {row.name: onnx.numpy_helper.to_array(row) for row in model.graph.initializer}
    assert node.op_type == "QuantizeLinear"
    assert values[node.input[1]] == np.float32(1 / 128)
    assert values[node.input[2]] == 127


def test_samples_that_do_not_fit_are_an_export_error(samples: np.ndarray) -> None:
    for bad, says in ((samples[:, :2], "quantizer failed"), (samples[:0], "no calibration sample")):
        with pytest.raises(ExportError, match=says) as caught:
            quantize_core(convolutions(), bad, StaticRecipe(types=U8S8))
        assert "\n" not in str(caught.value)


def test_a_recipe_is_json() -> None:
    value = json.loads(json.dumps(StaticRecipe(types=U8S8, input_scale=(0.5, 3)).to_json()))
    assert (value["kind"], value["format"], value["per_channel"]) == ("static", "QDQ", True)
    assert value["types"]["activations"] == "uint8"


def test_a_quantized_graph_is_proven_to_run_quantized(samples: np.ndarray) -> None:
    core = convolutions()
    proof = prove_fusion(quantize_core(core, samples, StaticRecipe(types=U8S8)), core)
    assert (proof.requested, proof.quantized, proof.share, proof.ok) == (3, 3, 1.0, True)
    assert proof.kernels["QLinearConv"] == 2
    assert json.loads(json.dumps(proof.to_json()))["quantized"] == 3


def test_a_silent_no_op_is_not(samples: np.ndarray) -> None:
    core = convolutions()
    proof = prove_fusion(core, core)
    assert (proof.requested, proof.quantized, proof.ok) == (3, 0, False)


def test_half_of_it_is_not_enough_unless_half_was_asked_for(samples: np.ndarray) -> None:
    core = convolutions()
    recipe = StaticRecipe(types=U8S8, op_types=("Gemm",))
    half = quantize_core(core, samples, recipe)
    assert not prove_fusion(half, core).ok
    asked = prove_fusion(half, core, op_types=("Gemm", "Relu"))
    assert (asked.requested, asked.quantized, asked.ok) == (1, 1, True)


def test_nodes_that_stay_in_float_are_not_counted_against_it(samples: np.ndarray) -> None:
    core = convolutions()
    for number, node in enumerate(core.graph.node):
        node.name = f"{node.op_type}_{number}"
    recipe = StaticRecipe(types=U8S8, float_nodes=("Conv_0",))
    model = quantize_core(core, samples, recipe)
    proof = prove_fusion(model, core, float_nodes=recipe.float_nodes)
    assert (proof.requested, proof.quantized, proof.ok) == (2, 2, True)
    assert {"Conv", "QLinearConv"} <= set(operators(optimised(model)))


def test_early_convolutions_are_the_first_sixth_after_the_stem() -> None:
    body = "\n".join(f"[c{i}] x{i + 1} = Conv(x{i}, w)" for i in range(13))
    core = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]>'
        f"g (float[n, 3, 8, 8] x0, float[3, 3, 1, 1] w) => (float[n, 3, 8, 8] x13) {{ {body} }}"
    )
    assert early_convolutions(core) == ("c1", "c2")
    assert early_convolutions(convolutions()) == ()


def test_nothing_to_quantize_is_no_proof() -> None:
    idle = parse(
        """
        <ir_version: 10, opset_import: ["": 18]>
        g (float[n, 2] a) => (float[n, 2] b) { b = Relu(a) }
        """
    )
    proof = prove_fusion(idle, idle)
    assert (proof.share, proof.ok) == (0.0, False)


def test_the_optimised_graph_is_what_the_runtime_executes(
    samples: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    model = quantize_core(convolutions(), samples, StaticRecipe(types=U8S8))
    assert "QLinearConv" not in operators(model)
    assert "QLinearConv" in operators(optimised(model))
    assert capfd.readouterr() == ("", "")
