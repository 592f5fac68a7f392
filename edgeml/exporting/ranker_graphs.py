"""A ranker's graphs: traced with one row of the request and free candidates, and in INT8.

The request's part stays in float: it is one row, and rounding it would cost more than it saves.
So does what is added to the scores: rounded scores tie. Nothing dynamic is tried: ranges taken at
run time would let one candidate change the score of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edgeml.core.signature import Tensors
from edgeml.errors import ExportError, ParityError
from edgeml.exporting.from_torch import export_program
from edgeml.exporting.graph import Graph
from edgeml.exporting.linear_quantizing import (
    LinearRecipe,
    linear_inputs,
    quantize_linear_layers,
)
from edgeml.exporting.quantizing import IntegerTypes, StaticRecipe, quantize_core
from edgeml.exporting.ranges import collect_histograms
from edgeml.tasks.recommendation.ranking import CANDIDATES, RankingFields

TOLERANCE = 1e-4
_COUNTS = (1, 3, 500)
_HEAVY = ("MatMul", "Gemm")


def trace_ranker(module: nn.Module, fields: RankingFields, *, seed: int = 0) -> onnx.ModelProto:
    """Trace a ranker and compare the graph with it.

    Args:
        module: Takes the four tensors of ``fields.signature`` in their order, and answers with
            ``scores`` and ``heads``.
        fields: Names and sizes.
        seed: Of the inputs that the two are compared on.

    Returns:
        A model of opset 18 with one row of the request and any number of candidates.

    Raises:
        ExportError: torch cannot trace the module.
        ParityError: The graph answers differently.
    """
    module.eval()
    signature = fields.signature
    rng = np.random.default_rng(seed)
    free = torch.export.Dim(CANDIDATES, min=1)
    model = export_program(
        module,
        tuple(torch.from_numpy(row) for row in example_feed(fields, 2, rng).values()),
        input_names=[spec.name for spec in signature.inputs],
        output_names=[spec.name for spec in signature.outputs],
        dynamic_shapes=(None, None, {0: free}, {0: free}),
    )
    for count in _COUNTS:
        _compare(model, module, example_feed(fields, count, rng))
    return model


def example_feed(
    fields: RankingFields, count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return a drawn request with so many candidates; its codes are valid, its numbers normal."""

    def codes(rows: int, ids: Sequence[int]) -> np.ndarray:
        drawn = [rng.integers(0, size, rows) for size in ids]
        return np.stack(drawn, 1) if drawn else np.zeros((rows, 0), dtype=np.int64)

    def numbers(rows: int, names: Sequence[str]) -> np.ndarray:
        return rng.standard_normal((rows, len(names))).astype(np.float32)

    return {
        "request_ids": codes(1, [field.size for field in fields.request_ids]),
        "request_numbers": numbers(1, fields.request_numbers),
        "candidate_ids": codes(count, [field.size for field in fields.candidate_ids]),
        "candidate_numbers": numbers(count, fields.candidate_numbers),
    }


def ranker_candidates(
    model: onnx.ModelProto, feeds: Sequence[Tensors], types: IntegerTypes
) -> dict[str, tuple[onnx.ModelProto, Mapping[str, object]]]:
    """Return the INT8 candidates by name, each with its recipe.

    Args:
        model: Of :func:`trace_ranker`.
        feeds: Real requests with their candidates, for the ranges.
        types: What this machine multiplies fast.

    Raises:
        ExportError: The ranker has no product over candidates to quantize.
    """
    inner = _hidden_products(model)
    if not inner:
        raise ExportError("the ranker has no hidden layer over its candidates to quantize")
    floats = tuple(
        node.name for node in model.graph.node if node.op_type in _HEAVY and node.name not in inner
    )
    made: dict[str, tuple[onnx.ModelProto, Mapping[str, object]]] = {}
    for calibration in ("minmax", "mse"):
        recipe = StaticRecipe(
            types=types,
            op_types=_HEAVY,
            float_nodes=floats,
            calibration=calibration,
            num_samples=len(feeds),
        )
        name = f"int8-qdq-{calibration}"
        made[name] = (quantize_core(model, feeds, recipe), recipe.to_json())
    linear = _as_products(model)
    recipe_of_products = LinearRecipe(
        types=types, embeddings=False, float_nodes=floats, num_samples=len(feeds)
    )
    histograms = collect_histograms(linear, linear_inputs(linear), feeds)
    ranges = {name: row.minmax() for name, row in histograms.items()}
    made["int8-linear"] = (
        quantize_linear_layers(linear, recipe_of_products, ranges),
        recipe_of_products.to_json(),
    )
    return made


def _hidden_products(model: onnx.ModelProto) -> list[str]:
    """Return the names of the products over candidates that feed another product.

    What feeds none is the head or a line of the wide part: narrow, and added to the scores.
    """
    reached = {"candidate_ids", "candidate_numbers"}
    over_candidates = []
    for node in model.graph.node:
        if reached & set(node.input):
            reached.update(node.output)
            if node.op_type in _HEAVY:
                over_candidates.append(node.name)
    feeding: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        feeds = bool(feeding & set(node.output))
        if feeds and node.name in over_candidates:
            found.append(node.name)
        if feeds or node.op_type in _HEAVY:
            feeding.update(node.input)
    return found[::-1]


def _as_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each Gemm of constant weights as a MatMul and an Add."""
    graph = Graph(model)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        weights = graph.constant(node.input[1]) if node.op_type == "Gemm" else None
        if weights is None:
            nodes.append(node)
            continue
        turned = any(row.name == "transB" and row.i for row in node.attribute)
        weight = graph.add_constant(
            np.ascontiguousarray(weights.T if turned else weights), f"{node.input[1]}/columns"
        )
        product = (
            graph.fresh(f"{node.output[0]}/product") if len(node.input) > 2 else node.output[0]
        )
        made = graph.make("MatMul", [node.input[0], weight], [product])
        made.name = node.name
        nodes.append(made)
        if len(node.input) > 2:
            nodes.append(graph.make("Add", [product, node.input[2]], [node.output[0]]))
    graph.nodes = nodes
    return graph.finish()


def _compare(model: onnx.ModelProto, module: nn.Module, feed: dict[str, np.ndarray]) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(["scores", "heads"], feed)
    with torch.inference_mode():
        wanted = module(*(torch.from_numpy(row) for row in feed.values()))
    for ours, theirs in zip(found, wanted, strict=True):
        gaps = np.abs(ours - theirs.numpy()) / np.maximum(1.0, np.abs(theirs.numpy()))
        if ours.shape != tuple(theirs.shape) or not float(gaps.max()) <= TOLERANCE:
            raise ParityError(
                variant="fp32",
                max_abs_diff=float(gaps.max()),
                tolerance=TOLERANCE,
                sample=int(np.argmax(gaps)) // (1 if gaps.ndim == 1 else gaps.shape[1]),
            )
