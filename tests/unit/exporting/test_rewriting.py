"""Rewritings: less work and the same answers, or the graph as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgeml.exporting import rewriting
from edgeml.exporting.rewriting import largest_difference, rewrite, split_products
from tests.unit.exporting.cores import operators, run

_HEAD = '<ir_version: 10, opset_import: ["": 18]>\nm (float[batch, 8] x) => (float[batch, %d] y)'


def _gemm(columns: int, attributes: str, *, bias: bool = True, turned: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    reads = "x, w, b" if bias else "x, w"
    model = onnx.parser.parse_model(f"{_HEAD % columns} {{ y = Gemm<{attributes}>({reads}) }}")
    shape = (columns, 8) if turned else (8, columns)
    weights = {"w": rng.normal(size=shape), "b": rng.normal(size=columns)}
    for name in ("w", "b") if bias else ("w",):
        tensor = numpy_helper.from_array(weights[name].astype(np.float32), name)
        model.graph.initializer.append(tensor)
    onnx.checker.check_model(model)
    return model


def _feed() -> dict[str, npt.NDArray[Any]]:
    return {"x": np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_plain_gemm_becomes_a_product_and_an_addition(*, turned: bool, bias: bool) -> None:
    model = _gemm(40, f"transB = {int(turned)}", bias=bias, turned=turned)
    made = split_products(model)
    onnx.checker.check_model(made)
    assert operators(made) == (["MatMul", "Add"] if bias else ["MatMul"])
    np.testing.assert_allclose(run(made, _feed()), run(model, _feed()), atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "attributes"),
    [(31, "transB = 0"), (40, "alpha = 0.5"), (40, "beta = 2.0")],
)
def test_a_narrow_head_and_a_scaled_product_stay(columns: int, attributes: str) -> None:
    model = _gemm(columns, attributes, turned=False)
    made = split_products(model)
    assert operators(made) == ["Gemm"]
    np.testing.assert_array_equal(run(made, _feed()), run(model, _feed()))


def test_a_product_of_two_computed_tensors_stays() -> None:
    text = f"{_HEAD % 8} {{ t = Transpose(x)  p = Gemm(t, x)  y = Gemm(x, p) }}"
    assert operators(split_products(onnx.parser.parse_model(text))).count("Gemm") == 2


def test_the_difference_is_relative_and_sees_nan() -> None:
    times = "{ y = Mul(x, k) }"
    head = _HEAD % 8
    graphs = [
        onnx.parser.parse_model(f"{head} <float k = {{{k}}}> {times}") for k in (100.0, 101.0)
    ]
    feed = {"x": np.full((1, 8), 2.0, np.float32)}
    assert largest_difference(*graphs, [feed]) == pytest.approx(0.01)
    undefined = onnx.parser.parse_model(f"{head} {{ n = Neg(x)  y = Log(n) }}")
    assert largest_difference(graphs[0], undefined, [feed]) == float("inf")


def test_a_rewriting_that_changes_answers_is_undone_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core, other = _gemm(40, "transB = 0", turned=False), _gemm(40, "alpha = 0.5", turned=False)
    monkeypatch.setattr(rewriting, "expand_attention", lambda _: other)
    made, facts = rewrite(core, [_feed()])
    assert made is core
    assert facts["not_rewritten"].startswith("its outputs differ by")


def test_a_rewriting_that_fails_leaves_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: onnx.ModelProto) -> onnx.ModelProto:
        raise RuntimeError("first line\nsecond")

    core = _gemm(40, "transB = 0", turned=False)
    monkeypatch.setattr(rewriting, "recognise_attention", fail)
    made, facts = rewrite(core, [_feed()])
    assert made is core
    assert facts["not_rewritten"] == "first line"
