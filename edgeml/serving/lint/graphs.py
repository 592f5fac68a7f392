"""What the linter needs of an ONNX file: its two sides, its versions and its operators.

Weights in files of their own are not opened, nothing is run, and a file is read once a lint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from edgeml.core.dtypes import DTYPES

STANDARD_DOMAINS = ("", "ai.onnx")
CONTRIB_DOMAIN = "com.microsoft"

_TRITON = {row.onnx: row.triton for row in DTYPES} | {8: "TYPE_STRING", 16: "TYPE_BF16"}
_INTEGER_OPERATORS = {
    *("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    *("ConvInteger", "MatMulInteger", "QAttention", "QGemm", "QEmbedLayerNormalization"),
    *("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QMoE"),
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One input or output of a graph.

    Attributes:
        dtype: Triton's name of its type; empty for what is no tensor.
        dims: Size of every axis, None for a free one; None where the rank is not said.
    """

    dtype: str
    dims: tuple[int | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX file, without its weights.

    Attributes:
        inputs: Name to side; weights that are listed as inputs are left out.
        outputs: Name to side.
        ir_version: Version of the file format.
        opset: Version of the standard operators; 0 where none is asked for.
        contrib: Operators of ``com.microsoft``, sorted.
        domains: Other domains of its operators, sorted.
        quantized: Whether it computes with integers of eight bits: quantized by any tool.
    """

    inputs: dict[str, Side]
    outputs: dict[str, Side]
    ir_version: int
    opset: int
    contrib: tuple[str, ...]
    domains: tuple[str, ...]
    quantized: bool


class GraphReader:
    """Reads files, each once."""

    def __init__(self) -> None:
        self._read: dict[Path, Graph | str] = {}

    def read(self, path: Path) -> Graph | str:
        """Return the graph of a file, or in words why it cannot be read."""
        if path not in self._read:
            self._read[path] = _read(path)
        return self._read[path]


def _read(path: Path) -> Graph | str:
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (OSError, DecodeError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
    if not model.ir_version or not model.graph.output:
        return "it has no graph"
    return describe_graph(model)


def describe_graph(model: onnx.ModelProto) -> Graph:
    """Return what the linter needs of a model."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {_text(row.name): _side(row) for row in model.graph.input if row.name not in weights}
    local = {(row.domain, row.name) for row in model.functions}
    nodes = [node for node in _nodes(model) if (node.domain, node.op_type) not in local]
    operators = {(_text(node.domain), _text(node.op_type)) for node in nodes}
    opsets = [row.version for row in model.opset_import if row.domain in STANDARD_DOMAINS]
    known = (*STANDARD_DOMAINS, CONTRIB_DOMAIN, "ai.onnx.ml")
    return Graph(
        inputs=inputs,
        outputs={_text(row.name): _side(row) for row in model.graph.output},
        ir_version=model.ir_version,
        opset=max(opsets, default=0),
        contrib=tuple(sorted(name for domain, name in operators if domain == CONTRIB_DOMAIN)),
        domains=tuple(sorted({domain for domain, _ in operators if domain not in known})),
        quantized=any(_is_quantized(node, inputs) for node in nodes),
    )


def _text(value: str | bytes) -> str:
    """Return a name as text: protobuf hands out bytes where a damaged file's is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _nodes(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield every node, those of inner graphs and of the file's own functions too."""
    waiting = [model.graph, *model.functions]
    while waiting:
        for node in waiting.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _is_quantized(node: Any, inputs: dict[str, Side]) -> bool:
    operator = _text(node.op_type)
    if operator == "DequantizeLinear":
        # Bytes of a picture may enter a float graph this way: that is no quantized graph.
        return not node.input or _text(node.input[0]) not in inputs
    return operator in _INTEGER_OPERATORS or operator.startswith("QLinear")


def _side(value: Any) -> Side:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Side(dtype="", dims=None)
    dims = None
    if kind.HasField("shape"):
        dims = tuple(
            axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None
            for axis in kind.shape.dim
        )
    return Side(dtype=_TRITON.get(kind.elem_type, ""), dims=dims)
