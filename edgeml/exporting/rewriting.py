"""Less work, same answers: what is done to a float core before anybody counts bits.

Each rewriting is tried on real samples beside the core as its exporter wrote it; where that fails,
or the answers are others, the core stays as it was and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeml.core.signature import Tensors
from edgeml.errors import ExportError
from edgeml.exporting.attention import count_attention, expand_attention, recognise_attention
from edgeml.exporting.first_token import keep_first_token
from edgeml.exporting.graph import Graph, attribute

_MAX_DIFFERENCE = 1e-3
# A product with fewer columns, such as a classifier's head, gains nothing and loses most.
_MIN_COLUMNS = 32


def rewrite(
    core: onnx.ModelProto, feeds: Sequence[Tensors]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the core with less work in it and the same answers, and what was done.

    Args:
        core: A float model.
        feeds: Real inputs that it must answer alike; padded ones, where there is padding.
    """
    facts: dict[str, Any] = {"attention_layers": 0, "first_token": False}
    try:
        recognised = recognise_attention(core)
        narrowed = keep_first_token(recognised)
        done = {
            "attention_layers": count_attention(recognised),
            "first_token": narrowed is not None,
        }
        lean = expand_attention(narrowed or recognised)
        del recognised, narrowed  # as large as the model each, and two sessions follow
        apart = largest_difference(core, lean, feeds)
        if not apart <= _MAX_DIFFERENCE:
            raise ExportError(f"its outputs differ by {apart:.2g}")
    except Exception as exc:  # ONNX Runtime's optimiser raises anything
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]
        return core, {**facts, "not_rewritten": reason}
    return lean, done


def split_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose plain Gemms with constant weights are a MatMul and an addition.

    Integer linear layers are made of MatMuls. A Gemm that scales or transposes its input stays, and
    so does a narrow one.
    """
    graph = Graph(model)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        weight = graph.constant(node.input[1]) if node.op_type == "Gemm" else None
        plain = (
            weight is not None
            and not attribute(node, "transA", 0)
            and attribute(node, "alpha", 1.0) == 1.0
            and attribute(node, "beta", 1.0) == 1.0
            and weight.shape[0 if attribute(node, "transB", 0) else 1] >= _MIN_COLUMNS
        )
        if weight is None or not plain:
            nodes.append(node)
            continue
        turned = weight.T if attribute(node, "transB", 0) else weight
        name = graph.add_constant(np.ascontiguousarray(turned), f"{node.input[1]}/columns")
        output = node.output[0]
        has_bias = len(node.input) > 2 and bool(node.input[2])
        product = graph.fresh(f"{output}/product") if has_bias else output
        made = graph.make("MatMul", [node.input[0], name], [product])
        made.name = node.name or made.name
        nodes.append(made)
        if has_bias:
            nodes.append(graph.make("Add", [product, node.input[2]], [output]))
    graph.nodes = nodes
    return graph.finish()


def wide_products(model: onnx.ModelProto) -> list[str]:
    """Return the names of MatMuls and Gemms with constant weights that are worth integers."""
    constants = {row.name: row for row in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
            continue
        turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
        sides = constants[node.input[1]].dims
        if len(sides) == 2 and sides[0 if turned else 1] >= _MIN_COLUMNS:
            found.append(node.name)
    return found


def largest_difference(
    core: onnx.ModelProto, other: onnx.ModelProto, feeds: Sequence[Tensors]
) -> float:
    """Return how far two models' outputs lie apart, relative to their size from 1 up."""
    # One after the other: a session holds the weights several times over while it opens.
    exact, found = _outputs(core, feeds), _outputs(other, feeds)
    worst = 0.0
    for pairs in zip(exact, found, strict=True):
        for ours, theirs in zip(*pairs, strict=True):
            size = max(1.0, float(np.abs(ours).max(initial=0.0)))
            apart = float(np.abs(ours - theirs).max(initial=0.0)) / size
            worst = max(worst, apart) if np.isfinite(apart) else float("inf")
    return worst


def _outputs(model: onnx.ModelProto, feeds: Sequence[Tensors]) -> list[list[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(None, dict(feed)) for feed in feeds]
