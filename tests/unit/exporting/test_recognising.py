"""Which graphs are quantized already, by whatever tool, and which only look so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)

from edgeml.exporting.recognising import recognise_quantized
from tests.unit.exporting.cores import convolutions

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
SCALE = "<float s = {0.1}, uint8 z = {3}, int8 wz = {0}>"


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._rows = iter([{"pixels": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (QuantFormat.QDQ, "QDQ, 2 Conv, 1 Gemm"),
        (QuantFormat.QOperator, "static, 2 QLinearConv, 1 QGemm"),
    ],
)
def test_static_quantization_is_seen(style: QuantFormat, expected: str, tmp_path: Path) -> None:
    onnx.save(convolutions(), tmp_path / "f.onnx")
    quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", Reader(), quant_format=style)
    assert recognise_quantized(onnx.load(tmp_path / "q.onnx")) == expected


def test_dynamic_quantization_is_seen(tmp_path: Path) -> None:
    onnx.save(convolutions(), tmp_path / "f.onnx")
    quantize_dynamic(tmp_path / "f.onnx", tmp_path / "q.onnx")
    assert recognise_quantized(onnx.load(tmp_path / "q.onnx")) == (
        "dynamic, 2 ConvInteger, 1 MatMulInteger"
    )


def test_a_float_model_is_none() -> None:
    assert recognise_quantized(convolutions()) == ""


GRAPHS = {
    "weights": (
        "{ w = DequantizeLinear(wq, s, wz)  wt = Transpose(w)  y = MatMul(x, wt) }",
        "weight-only, 1 MatMul",
    ),
    "own-scale": (
        "{ wf = Cast<to = 1>(wq)  w = Mul(wf, s)  wt = Transpose(w)  y = MatMul(x, wt) }",
        "weight-only, 1 MatMul",
    ),
    "fake-quantized": (
        "{ q = QuantizeLinear(wf0, s, wz)  w = DequantizeLinear(q, s, wz)"
        "  a = QuantizeLinear(x, s, z)  b = DequantizeLinear(a, s, z)  y = MatMul(b, w) }",
        "QDQ, 1 MatMul",
    ),
    "stray": (
        "{ a = QuantizeLinear(x, s, z)  b = DequantizeLinear(a, s, z)  c = Relu(b)"
        "  y = MatMul(c, wf0) }",
        "",
    ),
    "input-only": (
        "{ a = QuantizeLinear(x, s, z)  b = DequantizeLinear(a, s, z)  y = MatMul(b, wf0) }",
        "",
    ),
    "output-only": ("{ m = MatMul(x, wf0)  a = QuantizeLinear(m, s, z)"
                    "  y = DequantizeLinear(a, s, z) }", ""),
    "half-weights": ("{ w = Cast<to = 1>(wh)  y = MatMul(x, w) }", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_integers_count_where_a_heavy_operator_uses_them(case: str) -> None:
    body, expected = GRAPHS[case]
    model = onnx.parser.parse_model(f"{HEAD} g (float[N, 4] x) => (float[N, 4] y) {SCALE} {body}")
    constants = {
        "wq": np.ones((4, 4), dtype=np.int8),
        "wf0": np.ones((4, 4), dtype=np.float32),
        "wh": np.ones((4, 4), dtype=np.float16),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    assert recognise_quantized(model) == expected
