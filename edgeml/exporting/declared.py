"""What a graph from elsewhere says that it takes, and which of that edgeml can serve."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx
from onnx import TensorProto

from edgeml.core.dtypes import DTYPES
from edgeml.core.signature import TensorSpec
from edgeml.errors import InputError
from edgeml.exporting.graph import attribute

BATCH = "batch"
_BY_ONNX = {row.onnx: row.numpy for row in DTYPES}
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S*onnxruntime_src/\S+ ")
_ADVICE = "export it again with a free batch axis first on every input and output"


def declared_inputs(model: onnx.ModelProto, *, name: str) -> tuple[TensorSpec, ...]:
    """Return a graph's inputs, the free batch axis of each called ``batch``.

    Args:
        model: Its inputs are true inputs, no initializers.
        name: The file, for messages.

    Raises:
        InputError: An input or output is not a numeric tensor; an input has no shape or no batch
            axis first; first axes are mixed, or fixed to more than one.
    """
    graph = model.graph
    for side, rows in (("input", graph.input), ("output", graph.output)):
        for row in rows:
            _check_type(side, row, name)
    if not graph.input:
        raise InputError("the graph takes no input; one that answers to inputs was expected; "
                         "export it again", item=name)  # fmt: skip
    raw = {row.name: _axes(row, name) for row in graph.input}
    _check_first_axes(raw, name)
    firsts = {axes[0] for axes in raw.values()}
    return tuple(
        TensorSpec(
            name=row.name,
            dtype=_BY_ONNX[row.type.tensor_type.elem_type],
            shape=_named(row.name, raw[row.name], firsts),
        )
        for row in graph.input
    )


def declared_names(row: onnx.ValueInfoProto) -> list[str]:
    """Return the name of each axis as the file has it; empty where it is fixed or nameless."""
    return [axis.dim_param for axis in row.type.tensor_type.shape.dim]


def known_channels(model: onnx.ModelProto, inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """Return sizes of free channel axes of pictures, from the convolution that reads them, or 3."""
    weights = {row.name: row for row in model.graph.initializer}
    found: dict[str, int] = {}
    for spec in inputs:
        if len(spec.shape) != 4 or not all(isinstance(axis, str) for axis in spec.shape[1:]):
            continue
        channels = 3
        for node in model.graph.node:
            if node.op_type == "Conv" and node.input[0] == spec.name and node.input[1] in weights:
                channels = weights[node.input[1]].dims[1] * attribute(node, "group", 1)
        found[str(spec.shape[1])] = channels
    return found


def unsupported(side: str, tensor: str, kind: str, name: str) -> InputError:
    """Return the refusal of a tensor of a type that edgeml does not serve."""
    return InputError(
        f"the {side} '{tensor}' is of the type {kind}; a tensor of numbers "
        f"({', '.join(row.numpy for row in DTYPES)}) was expected; export the model without it",
        item=name,
    )


def first_line(exc: BaseException) -> str:
    """Return the first line of a library's words."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]


def runtime_reason(exc: BaseException) -> str:
    """Return ONNX Runtime's words in one line, without its error codes and source files."""
    words = _CODE.sub("", " ".join(str(exc).split())) or type(exc).__name__
    return words[:300]


def _check_type(side: str, row: onnx.ValueInfoProto, name: str) -> None:
    kind = row.type.WhichOneof("value")
    if kind is None and side == "output":
        return  # ONNX Runtime infers it
    if kind != "tensor_type":
        raise unsupported(side, row.name, str(kind or "unknown").removesuffix("_type"), name)
    element = row.type.tensor_type.elem_type
    if element not in _BY_ONNX and not (side == "output" and not element):
        known = element in TensorProto.DataType.values()
        raise unsupported(
            side, row.name, TensorProto.DataType.Name(element).lower() if known else "unknown", name
        )


def _axes(row: onnx.ValueInfoProto, name: str) -> tuple[int | str, ...]:
    """Return sizes and names as the file has them; nameless axes are empty."""
    if not row.type.tensor_type.HasField("shape"):
        raise InputError(
            f"the input '{row.name}' declares no shape; a known number of axes was expected; "
            f"{_ADVICE}",
            item=name,
        )
    axes: tuple[int | str, ...] = tuple(
        axis.dim_value if axis.dim_value > 0 else axis.dim_param
        for axis in row.type.tensor_type.shape.dim
    )
    if not axes:
        raise InputError(
            f"the input '{row.name}' is a scalar without any axis; the batch was expected as its "
            f"first one; {_ADVICE}, or make it a constant",
            item=name,
        )
    return axes


def _check_first_axes(raw: dict[str, tuple[int | str, ...]], name: str) -> None:
    fixed = {tensor: axes[0] for tensor, axes in raw.items() if isinstance(axes[0], int)}
    for tensor, size in fixed.items():
        if size != 1:
            raise InputError(
                f"the first axis of the input '{tensor}' is fixed to {size}; a free batch axis, or "
                f"1, was expected; {_ADVICE}",
                item=name,
            )
    if fixed and len(fixed) < len(raw):
        free = next(tensor for tensor in raw if tensor not in fixed)
        raise InputError(
            f"the first axis of the input '{next(iter(fixed))}' is fixed and that of '{free}' is "
            f"free; one batch axis of all inputs was expected; {_ADVICE}",
            item=name,
        )


def _named(
    tensor: str, axes: tuple[int | str, ...], firsts: set[int | str]
) -> tuple[int | str, ...]:
    """Give every free axis a name; that of the batch belongs to first axes alone."""
    first: int | str = axes[0] if isinstance(axes[0], int) else BATCH
    return (
        first,
        *(
            axis if isinstance(axis, int) or (axis and axis not in firsts and axis != BATCH)
            else f"{tensor}_axis{position}"
            for position, axis in enumerate(axes[1:], start=1)
        ),
    )  # fmt: skip
