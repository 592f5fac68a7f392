"""Saturation: how much of an activation lies outside its integers, whoever quantized it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeml.core.signature import Tensors
from edgeml.exporting.clipping import Clipping, find_clipping

_SOURCE = """<ir_version: 10, opset_import: ["": 18]>
m (float[batch, 4] x) => (float[batch, 4] y) { a = Mul(x, x)  y = Relu(a) }"""
_QUANTIZED = """<ir_version: 10, opset_import: ["": 18]>
m (float[batch, 4] x) => (float[batch, 4] y)
<float fine = {%s}, float wide = {1.0}, int8 none = {0}, uint8 low = {0}> {
    q = QuantizeLinear(x, fine, none)  back = DequantizeLinear(q, fine, none)
    a = Mul(back, back)
    r = QuantizeLinear(a, wide, low)  y = DequantizeLinear(r, wide, low)
}"""
FEEDS = [{"x": np.array([[0.5, 1.0, 2.0, 3.0]], dtype=np.float32)}]


def _clipping(scale: float, feeds: Sequence[Tensors] = FEEDS) -> Clipping | None:
    model, source = map(onnx.parser.parse_model, (_QUANTIZED % scale, _SOURCE))
    return find_clipping(model, source, feeds)


def test_the_share_beyond_the_last_level_is_counted() -> None:
    found = _clipping(0.01)  # 127 steps hold 1.27
    assert found is not None
    assert (found.tensor, found.share, found.tensors) == ("x", 0.5, 2)
    assert not found.ok
    assert json.loads(json.dumps(found.to_json()))["ok"] is False


def test_what_fits_is_not_clipped() -> None:
    found = _clipping(0.02)
    assert found is not None
    assert (found.share, found.ok) == (0.0, True)


@pytest.mark.parametrize(
    ("value", "clipped"), [(1.52, 0.0), (1.54, 1.0), (-1.53, 0.0), (-1.56, 1.0)]
)
def test_a_tenth_of_the_width_beyond_the_end_is_no_clipping(value: float, clipped: float) -> None:
    feed = {"x": np.full((1, 4), value, dtype=np.float32)}
    found = _clipping(0.01, [feed])
    assert found is not None
    assert found.share == clipped


def test_a_twentieth_may_be_clipped() -> None:
    values = np.zeros((5, 4), dtype=np.float32)
    values[0, 0] = 9.0
    found = _clipping(0.01, [{"x": values}])
    assert found is not None
    assert (found.share, found.ok) == (0.05, True)


def test_a_graph_without_ranges_says_nothing() -> None:
    source = onnx.parser.parse_model(_SOURCE)
    assert find_clipping(source, source, FEEDS) is None
