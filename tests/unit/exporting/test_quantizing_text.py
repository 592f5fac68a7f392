"""ONNX Runtime's static quantizer on a rewritten text core: most products, never the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgeml.exporting.attention import (
    MASK_VALUE,
    count_attention,
    expand_attention,
    masked_additions,
    recognise_attention,
)
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.linear_quantizing import linear_products
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe, quantize_core
from tests.small import parse
from tests.unit.exporting.cores import convolutions, run
from tests.unit.exporting.test_attention import text_feed, traced

LAYERS = 2
# As workflows/text_candidates.py asks for them.
PRODUCTS = ("MatMul", "Gemm")
WIDE = (*PRODUCTS, "Add", "Mul", "Gather")


@pytest.fixture(scope="module")
def lean() -> onnx.ModelProto:
    return expand_attention(recognise_attention(traced("bert")))


def _feeds(core: onnx.ModelProto) -> list[dict[str, Any]]:
    return [text_feed(core, (length,), to=length) for length in (3, 5, 8, 9, 12, 16)]


def _quantize(lean: onnx.ModelProto, op_types: tuple[str, ...]) -> onnx.ModelProto:
    recipe = StaticRecipe(
        types=TYPES_BY_INSTRUCTION_SET["avx512_vnni"],
        num_samples=6,
        op_types=op_types,
        float_nodes=masked_additions(lean),
    )
    return quantize_core(lean, _feeds(lean), recipe)


@pytest.fixture(scope="module")
def quantized(lean: onnx.ModelProto) -> onnx.ModelProto:
    return _quantize(lean, PRODUCTS)


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def test_each_layers_mask_is_found(lean: onnx.ModelProto) -> None:
    found = masked_additions(lean)
    nodes = {node.name: node for node in lean.graph.node}
    additions = [name for name in found if nodes[name].op_type == "Add"]
    assert len(set(additions)) == count_attention(recognise_attention(traced("bert"))) == LAYERS
    masks = {nodes[name].input[1] for name in additions}
    assert len(masks) == 1
    # And what makes it, which holds the far value as well.
    assert "Mul" in {nodes[name].op_type for name in found}


def test_no_other_addition_is_taken_for_one() -> None:
    assert masked_additions(convolutions()) == ()
    plain = parse(
        """
        <ir_version: 10, opset_import: ["": 18]>
        g (float[n, 2] a, float[n, 2] b) => (float[n, 2] y)
        { c = Add(a, b)  d = Mul(c, b)  y = Softmax<axis = -1>(d) }
        """
    )
    assert masked_additions(plain) == ()


def test_the_mask_stays_in_float(quantized: onnx.ModelProto, lean: onnx.ModelProto) -> None:
    makers = _makers(quantized)
    added = {node.name: node for node in quantized.graph.node}
    readers = [node for node in quantized.graph.node if node.op_type == "Softmax"]
    assert len(readers) == LAYERS
    for name in masked_additions(lean):
        if added[name].op_type != "Add":
            continue
        # Nothing rounds the mask, or what it was added to.
        assert makers[added[name].input[1]].op_type != "DequantizeLinear"
        assert added[name].output[0] in {node.input[0] for node in readers}
    steps = [
        float(onnx.numpy_helper.to_array(row).max())
        for row in quantized.graph.initializer
        if row.name.endswith("_scale")
    ]
    assert steps
    assert max(steps) < -MASK_VALUE / 255


def test_most_products_are_quantized(quantized: onnx.ModelProto, lean: onnx.ModelProto) -> None:
    makers = _makers(quantized)
    names = set(linear_products(lean))
    products = [node for node in quantized.graph.node if node.op_type in PRODUCTS]
    rounded = [
        node
        for node in products
        if all(
            name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]
        )
    ]
    assert names
    assert len(rounded) > len(names) / 2


def test_the_runtime_runs_most_of_them_in_integers(
    quantized: onnx.ModelProto, lean: onnx.ModelProto
) -> None:
    proof = prove_fusion(quantized, lean, num_requested=len(linear_products(lean)))
    assert proof.share > 0.5
    assert prove_fusion(lean, lean, num_requested=proof.requested).quantized == 0


def test_answers_stay_near_and_padding_is_not_seen(
    quantized: onnx.ModelProto, lean: onnx.ModelProto
) -> None:
    feed = text_feed(lean, (9, 4, 2), to=12)
    exact, got = run(lean, feed), run(quantized, feed)
    assert np.abs(got - exact).max() < 0.25 * np.abs(exact).max()
    _check_padding(quantized, feed)


def test_a_wider_quantization_does_not_see_padding_either(lean: onnx.ModelProto) -> None:
    _check_padding(_quantize(lean, WIDE), text_feed(lean, (9, 4, 2), to=12))


def _check_padding(model: onnx.ModelProto, feed: dict[str, Any]) -> None:
    """Change nothing but the ids behind the mask: no answer may differ."""
    other = dict(feed)
    other["input_ids"] = np.where(feed["attention_mask"] == 0, 7, feed["input_ids"])
    np.testing.assert_array_equal(run(model, other), run(model, feed))
