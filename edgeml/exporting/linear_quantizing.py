"""INT8 for the linear layers of a transformer: integer products, everything between in float.

ONNX Runtime's own static quantizer also quantizes what a product gives, and so pays for two
conversions that nothing reads, and loses accuracy for it. Here each constant-weight MatMul takes
integers and gives float, with its bias added inside the kernel; one conversion serves all products
that read the same tensor. Static: ranges from calibration, the answer of a row depends on that row
alone. Dynamic: ranges from the batch at hand, so that it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.errors import ExportError
from edgeml.exporting.graph import CONTRIB, Graph
from edgeml.exporting.quantizing import IntegerTypes
from edgeml.exporting.ranges import Range

# Rows of an embedding below this are not worth an integer table.
_MIN_TABLE = 1000


@dataclass(frozen=True, kw_only=True)
class LinearRecipe:
    """How the linear layers are quantized; it is stored in the manifest.

    Attributes:
        types: Element types.
        activations: ``static`` or ``dynamic`` ranges.
        percent: Share of an activation's values, in per cent, that its range holds; 100 is all.
        num_samples: Calibration samples.
        embeddings: Whether large embedding tables are stored as int8, one scale a row.
        float_nodes: Names of MatMul nodes to leave in float.
    """

    types: IntegerTypes
    activations: Literal["static", "dynamic"] = "static"
    percent: float = 100.0
    num_samples: int = 300
    embeddings: bool = True
    float_nodes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"kind": "linear", "format": "MatMulIntegerToFloat", **asdict(self)}


def linear_inputs(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that constant-weight MatMuls read, each once."""
    graph = Graph(model)
    return list(dict.fromkeys(node.input[0] for node in graph.nodes if _is_linear(graph, node)))


def linear_products(model: onnx.ModelProto) -> list[str]:
    """Return the names of the MatMuls with constant weights."""
    graph = Graph(model)
    return [node.name for node in graph.nodes if _is_linear(graph, node)]


def quantize_linear_layers(
    model: onnx.ModelProto, recipe: LinearRecipe, ranges: Mapping[str, Range] | None = None
) -> onnx.ModelProto:
    """Quantize constant-weight MatMuls, and large embedding tables.

    Args:
        model: A float model; it is not changed.
        recipe: How.
        ranges: For static activations: the range of each tensor of :func:`linear_inputs`.

    Raises:
        ExportError: The model has no such MatMul.
    """
    work = _Quantization(model, recipe, ranges or {})
    return work.run()


class _Quantization:
    """One model on its way to integers."""

    def __init__(
        self, model: onnx.ModelProto, recipe: LinearRecipe, ranges: Mapping[str, Range]
    ) -> None:
        self.graph = Graph(model)
        self.recipe = recipe
        self.ranges = ranges
        self.readers = self.graph.readers()
        self.nodes: list[onnx.NodeProto] = []
        self.quantized: dict[str, tuple[str, str, str]] = {}
        self.weights: dict[str, tuple[str, str, str]] = {}

    def run(self) -> onnx.ModelProto:
        graph, biases, count = self.graph, set(), 0
        for node in graph.nodes:
            if id(node) in biases:
                continue
            if _is_linear(graph, node) and node.name not in self.recipe.float_nodes:
                bias = self._bias(node)
                if bias is not None:
                    biases.add(id(bias))
                self._product(node, bias)
                count += 1
            elif self.recipe.embeddings and self._is_table(node):
                self._embed(node)
            else:
                self.nodes.append(node)
        if not count:
            raise ExportError(
                "the graph has no MatMul with constant weights to quantize; a transformer's linear "
                "layers were expected"
            )
        graph.nodes = self.nodes
        return graph.finish()

    def _add(self, op_type: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self.nodes.append(self.graph.make(op_type, inputs, outputs, **attributes))

    def _bias(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the Add of one constant a column that alone reads a product, or None."""
        users = self.readers[node.output[0]]
        if len(users) != 1 or users[0].op_type != "Add" or node.output[0] in self.graph.outputs:
            return None
        other = [name for name in users[0].input if name != node.output[0]]
        value = self.graph.constant(other[0]) if len(other) == 1 else None
        weights = self.graph.constant(node.input[1])
        assert weights is not None
        fits = value is not None and value.shape == weights.shape[1:]
        return users[0] if fits else None

    def _product(self, node: onnx.NodeProto, bias: onnx.NodeProto | None) -> None:
        values, scale, zero = self._activation(node.input[0])
        weight, weight_scale, weight_zero = self._weight(node.input[1])
        inputs = [values, weight, scale, weight_scale, zero, weight_zero]
        output = node.output[0]
        if bias is not None:
            inputs.append(next(name for name in bias.input if name != node.output[0]))
            output = bias.output[0]
        self._add("MatMulIntegerToFloat", inputs, output, domain=CONTRIB)

    def _activation(self, name: str) -> tuple[str, str, str]:
        """Return the integer form of a tensor with its scale and zero point, made once."""
        if name not in self.quantized:
            self.quantized[name] = (
                self._static(name) if self.recipe.activations == "static" else self._dynamic(name)
            )
        return self.quantized[name]

    def _static(self, name: str) -> tuple[str, str, str]:
        kind = self.recipe.types.activations
        scale, zero = scale_of(self.ranges[name], kind)
        scale_name = self.graph.add_constant(np.array(scale, np.float32), f"{name}/scale")
        zero_name = self.graph.add_constant(np.array(zero, kind), f"{name}/zero")
        values = self.graph.fresh(f"{name}/{kind}")
        self._add("QuantizeLinear", [name, scale_name, zero_name], values)
        return values, scale_name, zero_name

    def _dynamic(self, name: str) -> tuple[str, str, str]:
        parts = [self.graph.fresh(f"{name}/{part}") for part in ("uint8", "scale", "zero")]
        self._add("DynamicQuantizeLinear", [name], *parts)
        return parts[0], parts[1], parts[2]

    def _weight(self, name: str) -> tuple[str, str, str]:
        if name not in self.weights:
            value = self.graph.constant(name)
            assert value is not None
            integers, scales = quantize_columns(value, reduce_range=self.recipe.types.reduce_range)
            zeros = np.zeros(scales.shape, dtype=np.int8)
            self.weights[name] = (
                self.graph.add_constant(integers, f"{name}/int8"),
                self.graph.add_constant(scales, f"{name}/scale"),
                self.graph.add_constant(zeros, f"{name}/zero"),
            )
        return self.weights[name]

    def _is_table(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Gather" or any(a.name == "axis" and a.i for a in node.attribute):
            return False
        table = self.graph.constant(node.input[0])
        return (
            table is not None
            and table.dtype == np.float32
            and table.ndim == 2
            and len(table) >= _MIN_TABLE
        )

    def _embed(self, node: onnx.NodeProto) -> None:
        """Look up int8 rows and their scales instead of float rows."""
        table, ids = node.input[0], node.input[1]
        value = self.graph.constant(table)
        assert value is not None
        scales = np.maximum(np.abs(value).max(axis=1, keepdims=True), 1e-12) / 127
        integers = np.clip(np.round(value / scales), -127, 127).astype(np.int8)
        rows, floats, row_scales = (
            self.graph.fresh(f"{node.output[0]}/{part}") for part in ("int8", "float", "scale")
        )
        stored = self.graph.add_constant(integers, f"{table}/int8")
        stored_scales = self.graph.add_constant(scales.astype(np.float32), f"{table}/scale")
        self._add("Gather", [stored, ids], rows)
        self._add("Cast", [rows], floats, to=onnx.TensorProto.FLOAT)
        self._add("Gather", [stored_scales, ids], row_scales)
        self._add("Mul", [floats, row_scales], node.output[0])


def scale_of(kept: Range, kind: str) -> tuple[float, int]:
    """Return scale and zero point that hold a range in eight bits.

    Args:
        kept: Includes zero.
        kind: ``uint8`` takes any range; ``int8`` is symmetric.
    """
    if kind == "int8":
        return max(abs(kept.low), abs(kept.high), 1e-12) / 127, 0
    scale = max(kept.high - kept.low, 1e-12) / 255
    return scale, int(np.clip(round(-kept.low / scale), 0, 255))


def quantize_columns(
    weights: npt.NDArray[np.floating], *, reduce_range: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize a matrix symmetrically, one scale a column.

    Args:
        weights: float ``(inputs, outputs)``.
        reduce_range: Use seven bits, where pairs of products would overflow sixteen.

    Returns:
        int8 ``(inputs, outputs)`` and float32 ``(outputs,)``.
    """
    most = 63 if reduce_range else 127
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / most
    integers = np.clip(np.round(weights / scales), -most, most).astype(np.int8)
    return integers, scales.astype(np.float32)


def _is_linear(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type != "MatMul":
        return False
    weight = graph.constant(node.input[1])
    return weight is not None and weight.ndim == 2 and weight.dtype == np.float32
