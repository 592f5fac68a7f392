"""Multiplications of one sample, counted from a model's graph: what a FLOP count usually means."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import shape_inference


def multiplications_of(path: Path) -> int:
    """Return the multiplications of a batch of one in convolutions and matrix products.

    Args:
        path: A float model whose only free axis is the batch.

    Raises:
        ValueError: A shape is not known.
    """
    model = onnx.load(path)
    for value in model.graph.input:
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].dim_value:
            axes[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {row.name: list(row.dims) for row in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        shapes[value.name] = [axis.dim_value for axis in axes]
    return sum(_of_node(node, shapes) for node in graph.node)


def _of_node(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type == "Conv":
        # Each output value: one product for each weight of its filter.
        weights = shapes[node.input[1]]
        return _product(node, shapes[node.output[0]]) * math.prod(weights[1:])
    if node.op_type == "MatMul":
        return _product(node, shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        weights = shapes[node.input[1]]
        transposed = any(row.name == "transB" and row.i for row in node.attribute)
        return _product(node, shapes[node.output[0]]) * weights[1 if transposed else 0]
    return 0


def _product(node: onnx.NodeProto, shape: list[int]) -> int:
    if 0 in shape:
        raise ValueError(f"the output of the node '{node.name}' has no known shape: {shape}")
    return math.prod(shape)
