"""What a graph from elsewhere is: already quantized or not, and which integers its inputs take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgeml.exporting.graph import attribute

_INTEGERS = frozenset(
    (
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16),
        *(TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64),
    )
)
_NARROW = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4})
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU"})
# Operators that are quantized by their name, and how.
_BY_NAME: Mapping[str, str] = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), "static"),
    **dict.fromkeys(("QAttention", "MatMulInteger", "MatMulIntegerToFloat"), "dynamic"),
    **dict.fromkeys(("ConvInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"), "dynamic"),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"), "weight-only"),
}
_ORDER = ("QDQ", "static", "dynamic", "weight-only")
# What may stand between a dequantized tensor and the operator that uses it.
_SHAPERS = frozenset({"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"})
_SCALERS = frozenset({"Cast", "Mul", "Sub"})
# What hands ids on to a table; other values come out of anything else.
_CARRIERS = frozenset(
    (
        *("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose"),
        *("Expand", "Slice", "Split", "Concat", "Clip", "Max", "Add"),
    )
)
_ANY_INTEGER = 2
_BYTES = {TensorProto.UINT8: 256, TensorProto.INT8: 128}


class _Index:
    """Who makes a tensor, who reads it, which are constant; a Constant node's value is one."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.constants = {row.name: row for row in model.graph.initializer}
        for node in model.graph.node:
            value = attribute(node, "value") if node.op_type == "Constant" else None
            if isinstance(value, TensorProto):
                self.constants[node.output[0]] = value
            for name in node.output:
                self.makers[name] = node
            for name in set(node.input):
                self.readers[name].append(node)


def recognise_quantized(model: onnx.ModelProto) -> str:
    """Say how a graph is quantized already.

    Convolutions and matrix products count whose weights are integers, through a DequantizeLinear
    or by a scale of one's own. A QuantizeLinear that feeds none of them, or an input that is
    dequantized before a float convolution, is no quantized model.

    Returns:
        Such as ``QDQ, 49 Conv, 1 Gemm``, ``dynamic, 36 MatMulInteger`` or ``weight-only, 36
        MatMul``, joined by ``; ``; empty for a model that is not quantized.
    """
    index = _Index(model)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in _ORDER}
    for node in model.graph.node:
        kind = _BY_NAME.get(node.op_type) or _kind_of_heavy(node, index)
        if kind:
            found[kind][node.op_type] += 1
    return "; ".join(
        ", ".join([kind, *(f"{count} {name}" for name, count in counts.most_common())])
        for kind, counts in found.items()
        if counts
    )


def _kind_of_heavy(node: onnx.NodeProto, index: _Index) -> str:
    if node.op_type not in _HEAVY or len(node.input) < 2:
        return ""
    if not _has_integer_origin(node.input[1], index):
        return ""
    return "QDQ" if _is_dequantized(node.input[0], index) else "weight-only"


def _is_dequantized(name: str, index: _Index) -> bool:
    maker = index.makers.get(name)
    while maker is not None and maker.op_type in _SHAPERS:
        maker = index.makers.get(maker.input[0])
    return maker is not None and maker.op_type == "DequantizeLinear"


def _has_integer_origin(name: str, index: _Index) -> bool:
    """Return whether a tensor is a dequantized one, or integer constants times a scale."""
    if _is_dequantized(name, index):
        return True
    steps = 0
    while name not in index.constants:
        maker = index.makers.get(name)
        if maker is None or maker.op_type not in _SHAPERS | _SCALERS:
            return False
        steps += maker.op_type == "Cast"
        # Either side of a product may be the scale: follow the one that is computed.
        computed = [
            one for one in maker.input if one in index.makers and one not in index.constants
        ]
        name = computed[0] if computed else maker.input[0]
    return bool(steps) and index.constants[name].data_type in _NARROW


def guess_vocabulary(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many values each integer input may have, for inputs that are made up.

    Args:
        model: Its graph's inputs are true inputs, no initializers.

    Returns:
        Integer input to a number ``n``; 0 to ``n - 1`` are valid. Where ids reach tables, it is the
        rows of the smallest; bytes that reach none have all their values; others, such as masks
        and token types that reach no table, have two.
    """
    index = _Index(model)
    sizes: dict[str, int] = {}
    for row in model.graph.input:
        kind = row.type.tensor_type.elem_type
        if kind in _INTEGERS:
            rows = _reached_rows(row.name, index)
            sizes[row.name] = max(1, min(rows)) if rows else _BYTES.get(kind, _ANY_INTEGER)
    return sizes


def _reached_rows(name: str, index: _Index) -> list[int]:
    """Return the rows of each table that a tensor's values are looked up in."""
    rows: list[int] = []
    seen: set[tuple[str, int]] = set()
    open_names = [(name, 0)]
    while open_names:
        current, shift = open_names.pop()
        if (current, shift) in seen:
            continue
        seen.add((current, shift))
        for node in index.readers.get(current, ()):
            table = _table_read(node, current)
            if table is not None:
                size = _rows_of(table, attribute(node, "axis", 0), index)
                rows += [] if size is None else [size - shift]
            elif node.op_type in _CARRIERS and (
                node.op_type not in ("Reshape", "Expand", "Slice", "Unsqueeze")
                or node.input[0] == current  # not as a shape or an axis
            ):
                further = shift + _offset(node, current, index)
                open_names += [(output, further) for output in node.output]
    return rows


def _table_read(node: onnx.NodeProto, ids: str) -> str | None:
    """Return the table in which a node looks these ids up, or None."""
    inputs: Sequence[str] = node.input
    if node.op_type in ("Gather", "GatherBlockQuantized"):
        return inputs[0] if inputs[1] == ids else None
    if node.op_type in ("EmbedLayerNormalization", "QEmbedLayerNormalization"):
        return inputs[2] if inputs[0] == ids else inputs[4] if inputs[1] == ids else None
    return None


def _rows_of(table: str, axis: int, index: _Index) -> int | None:
    """Return the size of a constant table on an axis, through what dequantizes it."""
    while table not in index.constants:
        maker = index.makers.get(table)
        if maker is None or maker.op_type not in {"DequantizeLinear", "Identity", *_SCALERS}:
            return None
        table = maker.input[0]
    dims = index.constants[table].dims
    return int(dims[axis]) if -len(dims) <= axis < len(dims) else None


def _offset(node: onnx.NodeProto, carried: str, index: _Index) -> int:
    """Return what an addition adds at most: tables of several fields are often one."""
    if node.op_type != "Add":
        return 0
    other = index.constants.get(next((one for one in node.input if one != carried), ""))
    if other is None or other.data_type not in _INTEGERS:
        return 0
    values = numpy_helper.to_array(other)
    return max(0, int(np.max(values))) if values.size else 0
