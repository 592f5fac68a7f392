"""The search space: what each kind of model is worth, on each machine, always in one order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe
from edgeml.exporting.space import SpaceOptions, keep_as_is, make_space
from edgeml.exporting.trials import Trial
from edgeml.exporting.weight_quantizing import DynamicRecipe
from tests.unit.exporting.cores import convolutions

_HEAD = '<ir_version: 10, opset_import: ["": 18]>\nm (float[batch, 32] x) => (float[batch, 32] y)'
_PRODUCTS = f"{_HEAD} {{ a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w) }}"
_ATTENTION = f"{_HEAD} {{ a = MatMul(x, w)  b = Softmax(a)  y = MatMul(b, w) }}"
_RECURRENT = """<ir_version: 10, opset_import: ["": 18]>
m (float[steps, batch, 8] x) => (float[steps, one, batch, 4] y)
{ y = LSTM<hidden_size = 4>(x, w, r) }"""


def _weighted(text: str, columns: int = 32) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, shape in (("w", (columns, columns)), ("r", (1, 16, 4))):
        if any(name in node.input for node in model.graph.node):
            weights = np.zeros((1, 16, 8) if "LSTM" in text and name == "w" else shape, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weights, name))
    return model


ASSEMBLY = Assembly(
    frame="none",
    signature=ModelSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 8)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 8)),),
    ),
)
OPTIONS = SpaceOptions(instruction_set="avx512_vnni")
CORES = {
    "cnn": convolutions(),
    "mlp": _weighted(_PRODUCTS),
    "transformer": _weighted(_ATTENTION),
    "lstm": _weighted(_RECURRENT),
}


def _space(kind: str, **changes: Any) -> dict[str, Trial]:
    made = make_space(CORES[kind], ASSEMBLY, replace(OPTIONS, **changes))
    found = {row.name: row for row in made}
    assert len(found) == len(made), "two trials share a name"
    return found


def test_fp32_comes_first_whatever_the_model() -> None:
    for kind in CORES:
        names = list(_space(kind, engines=("onnxruntime", "openvino"), files=("a.onnx",)))
        assert names[0] == "fp32"
        assert "fp16" in names


def test_convolutions_get_static_recipes_and_never_dynamic_ones() -> None:
    rows = _space("cnn")
    assert {"int8", "int8-joins", "int8-percentile", "int8-mse", "int8-per-tensor"} <= set(rows)
    assert {row.kind for row in rows.values()} == {"float", "half", "static"}


def test_a_transformer_is_made_lean_and_gets_integer_linear_layers() -> None:
    rows = _space("transformer")
    assert rows["fp32-lean"].precision == "fp32"
    assert isinstance(rows["int8"].recipe, LinearRecipe)
    assert rows["int8-dynamic"].recipe.activations == "dynamic"  # type: ignore[union-attr]
    assert {"int8-qdq", "int8-qdq-wide", "int8-qdq-all"} <= set(rows)


def test_plain_products_are_not_made_lean() -> None:
    rows = _space("mlp")
    assert "fp32-lean" not in rows
    assert {"int8", "int8-minmax", "int8-dynamic", "int8-qdq"} <= set(rows)


def test_narrow_products_are_not_worth_a_trial() -> None:
    narrow = _weighted(_PRODUCTS.replace("32", "8"), columns=8)
    assert [row.name for row in make_space(narrow, ASSEMBLY, OPTIONS)] == ["fp32", "fp16"]


def test_recurrent_layers_get_the_dynamic_quantizer() -> None:
    recipe = _space("lstm")["int8-run-time"].recipe
    assert isinstance(recipe, DynamicRecipe)
    assert "LSTM" in recipe.op_types


def test_convolutions_are_never_quantized_at_run_time() -> None:
    assert {"int8-run-time", "int8-run-time-channels"} <= set(_space("mlp"))
    for kind in CORES:
        for row in _space(kind).values():
            if isinstance(row.recipe, DynamicRecipe):
                assert "Conv" not in row.recipe.op_types
    assert "int8-run-time" not in _space("cnn")


def test_without_data_nothing_is_calibrated() -> None:
    for kind in CORES:
        for row in _space(kind, calibrated=False).values():
            assert not isinstance(row.recipe, StaticRecipe)
            if isinstance(row.recipe, LinearRecipe):
                assert row.recipe.activations == "dynamic"


@pytest.mark.parametrize("name", TYPES_BY_INSTRUCTION_SET)
def test_each_machine_gets_its_own_types(name: str) -> None:
    for kind in ("cnn", "transformer"):
        for row in _space(kind, instruction_set=name).values():
            if row.recipe is None:
                assert row.tuned_for is None
                continue
            assert row.tuned_for == name
            if isinstance(row.recipe, DynamicRecipe):
                assert row.recipe.reduce_range == TYPES_BY_INSTRUCTION_SET[name].reduce_range
            elif row.name != "int8-unsigned":
                assert row.recipe.types == TYPES_BY_INSTRUCTION_SET[name]  # type: ignore[union-attr]


def test_old_machines_leave_a_bit_free_or_take_unsigned_weights() -> None:
    rows = _space("cnn", instruction_set="avx2")
    assert rows["int8"].recipe.types.reduce_range  # type: ignore[union-attr]
    other = rows["int8-unsigned"].recipe.types  # type: ignore[union-attr]
    assert (other.weights, other.reduce_range) == ("uint8", False)
    assert "int8-unsigned" not in _space("cnn")


def test_signed_machines_have_no_dynamic_linear_layers() -> None:
    rows = _space("transformer", instruction_set="dotprod")
    assert "int8-dynamic" not in rows
    assert rows["int8"].recipe.types.activations == "int8"  # type: ignore[union-attr]


def test_the_exact_integer_input_needs_unsigned_activations() -> None:
    assembly = replace(ASSEMBLY, frame="image")
    scales = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Assembly, "input_scale", lambda _: (0.5, 128))
        for name in ("avx2", "dotprod"):
            options = replace(OPTIONS, instruction_set=name)
            rows = {row.name: row for row in make_space(CORES["cnn"], assembly, options)}
            scales[name] = rows["int8"].recipe.input_scale  # type: ignore[union-attr]
    assert scales == {"avx2": (0.5, 128), "dotprod": None}


def test_another_engine_is_tried_where_it_was_asked_for() -> None:
    assert {row.engine for row in _space("cnn").values()} == {"onnxruntime"}
    rows = _space("cnn", engines=("onnxruntime", "openvino"))
    theirs = {name: row for name, row in rows.items() if row.engine == "openvino"}
    assert {"fp32-openvino", "fp32-openvino-bf16", "int8-openvino"} <= set(theirs)
    assert theirs["fp32-openvino-bf16"].precision == "bf16"
    assert not any(row.precision == "fp16" for row in theirs.values())
    for name, row in theirs.items():
        assert row.engine_options["inference_precision"] == (
            "bf16" if name.endswith("bf16") else "f32"
        )


def test_few_bits_are_for_size_alone() -> None:
    assert not {"int8-weights", "int4-weights"} & set(_space("mlp"))
    rows = _space("mlp", goal="size")
    assert (rows["int8-weights"].precision, rows["int4-weights"].precision) == ("int8", "int4")


def test_files_of_others_come_last_in_their_order() -> None:
    rows = list(_space("mlp", files=("b.onnx", "a.onnx")).values())
    assert [(row.name, row.file) for row in rows[-2:]] == [
        ("file-1", "b.onnx"),
        ("file-2", "a.onnx"),
    ]


def test_what_is_quantized_already_is_kept_as_it_is() -> None:
    options = replace(OPTIONS, engines=("onnxruntime", "openvino"), files=("a.onnx",))
    rows = keep_as_is(options)
    assert [row.name for row in rows] == ["int8", "int8-openvino", "file-1"]
    assert {row.recipe for row in rows} == {None}


def test_equal_input_gives_an_equal_order() -> None:
    for kind in CORES:
        options = replace(OPTIONS, engines=("onnxruntime", "openvino"), goal="size")
        first, second = (make_space(CORES[kind], ASSEMBLY, options) for _ in range(2))
        assert [row.to_json() for row in first] == [row.to_json() for row in second]


def test_a_transformer_on_patches_has_both_families_under_names_of_their_own() -> None:
    both = onnx.ModelProto()
    both.CopyFrom(CORES["transformer"])
    both.graph.node.extend(CORES["cnn"].graph.node)
    both.graph.initializer.extend(CORES["cnn"].graph.initializer)
    options = replace(OPTIONS, engines=("onnxruntime", "openvino"))
    names = [row.name for row in make_space(both, ASSEMBLY, options)]
    assert len(set(names)) == len(names)
    assert {"int8", "int8-static", "int8-static-joins", "int8-static-openvino"} <= set(names)
    assert "int8-static-joins-openvino" not in names
