"""Cores for tests: normalised pixels to logits, written as ONNX text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from edgeml.core.signature import ModelSignature, TensorSpec

SIDE = 8
CLASSES = 5
SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=("batch", SIDE, SIDE, 3)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("batch", CLASSES)),),
)
CONVOLUTIONS = """
<ir_version: 11, opset_import: ["": 18]>
core (float[batch, 3, 8, 8] pixels) => (float[batch, 5] logits)
{
    first = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(pixels, w1, b1)
    active = Relu(first)
    second = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(active, w2, b2)
    pooled = GlobalAveragePool(second)
    flat = Flatten(pooled)
    logits = Gemm<transB = 1>(flat, w3, b3)
}
"""
# Its logits are five pixels as they are, so that the normalisation can be read off the answer.
WINDOW = """
<ir_version: 10, opset_import: ["": 18]>
core (float[batch, 3, 8, 8] pixels) => (float[batch, 5] logits)
<int64[1] starts = {0}, int64[1] ends = {5}, int64[1] axes = {1}>
{ flat = Flatten(pixels)  logits = Slice(flat, starts, ends, axes) }
"""


def convolutions(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions and a matrix with random weights."""
    rng = np.random.default_rng(seed)
    shapes = {
        "w1": (6, 3, 3, 3),
        "b1": (6,),
        "w2": (8, 6, 3, 3),
        "b2": (8,),
        "w3": (CLASSES, 8),
        "b3": (CLASSES,),
    }
    model = onnx.parser.parse_model(CONVOLUTIONS)
    for name, shape in shapes.items():
        values = rng.normal(0, 0.5, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, feed: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Run a single-output model."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, feed)
    return np.asarray(answer)


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In float64, by its formula."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of a graph, in its order."""
    return [node.op_type for node in model.graph.node]
