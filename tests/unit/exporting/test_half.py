"""FP16: half precision inside, float32 at the edges, and the source left alone."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgeml.exporting.half import KEEP_FLOAT32, halve_core
from tests.small import parse
from tests.unit.exporting.cores import convolutions, operators, run, softmax


def test_weights_are_half_and_the_edges_are_not(rng: np.random.Generator) -> None:
    core = convolutions()
    before = core.SerializeToString()
    half = halve_core(core)
    assert core.SerializeToString() == before
    assert {row.data_type for row in half.graph.initializer} == {TensorProto.FLOAT16}
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [value.name for value in (*half.graph.input, *half.graph.output)] == ["pixels", "logits"]
    pixels = rng.normal(0, 0.6, (9, 3, 8, 8)).astype(np.float32)
    exact, got = (softmax(run(one, {"pixels": pixels})) for one in (core, half))
    assert 0 < np.abs(exact - got).max() < 0.01
    assert half.ByteSize() < core.ByteSize()


def test_sums_and_exponentials_stay_in_float32() -> None:
    core = parse(
        """
        <ir_version: 10, opset_import: ["": 18]>
        core (float[batch, 8] pixels) => (float[batch, 8] logits)
        <float[8, 8] w = {1,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,1,0,0,0,0,
                          0,0,0,0,1,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,1},
         int64[1] axes = {1}>
        {
            mixed = MatMul(pixels, w)
            mean = ReduceMean(mixed, axes)
            centred = Sub(mixed, mean)
            logits = Softmax(centred)
        }
        """
    )
    half = halve_core(core)
    producers = {name: node.op_type for node in half.graph.node for name in node.output}
    for node in half.graph.node:
        if node.op_type in KEEP_FLOAT32:
            assert producers[node.input[0]] == "Cast"
    # 60,000 is within half precision and the sum of eight such values is not.
    values = np.full((1, 8), 60_000, dtype=np.float32)
    np.testing.assert_allclose(run(half, {"pixels": values}), np.full((1, 8), 0.125), atol=1e-3)
    assert operators(half).count("MatMul") == 1
