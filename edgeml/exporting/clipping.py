"""Saturation: how much of an activation lies outside what its integers can hold.

Whoever quantized the graph: each QuantizeLinear with constant scale and zero point has a range, and
real samples run through the float graph show how much lies outside. The float graph, since a
quantizer folds a ReLU or a clip into the range itself: what that cuts off was to be cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgeml.core.signature import Tensors
from edgeml.exporting.graph import Graph
from edgeml.exporting.ranges import float_tensors

_MAX_SHARE = 0.05
# What lies this share of the range's width beyond its end is hardly changed by clipping.
_SLACK = 0.1


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """The activation that is clipped most.

    Attributes:
        tensor: Its name.
        share: Share of its values that are clipped.
        tensors: How many activations were looked at.
    """

    tensor: str
    share: float
    tensors: int

    @property
    def ok(self) -> bool:
        """Whether at most a twentieth of it is clipped."""
        return self.share <= _MAX_SHARE

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {**asdict(self), "ok": self.ok}


def find_clipping(
    model: onnx.ModelProto, source: onnx.ModelProto, feeds: Iterable[Tensors]
) -> Clipping | None:
    """Compare a quantized model's ranges with its source's activations.

    Args:
        model: With QuantizeLinear nodes.
        source: The float model with the same inputs; tensors are matched by name.
        feeds: Real inputs.

    Returns:
        The activation that is clipped most; None where none of that name is quantized with
        constants.
    """
    known = set(float_tensors(source))
    limits = {
        _after_folding(name, source): row for name, row in _limits(model).items() if name in known
    }
    if not limits:
        return None
    probed = onnx.ModelProto()
    probed.CopyFrom(source)
    present = {row.name for row in (*probed.graph.output, *probed.graph.input)}
    probed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in limits
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        probed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fed = {row.name for row in probed.graph.input}
    asked = [name for name in limits if name not in fed]
    clipped, seen = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0)
    for feed in feeds:
        values = dict(zip(asked, session.run(asked, dict(feed)) if asked else [], strict=True))
        for name, (low, high) in limits.items():
            array = values[name] if name in values else np.asarray(feed[name])
            clipped[name] += int(((array > high) | (array < low)).sum())
            seen[name] += array.size
    shares = {name: clipped[name] / max(1, seen[name]) for name in limits}
    worst = max(shares, key=lambda name: shares[name])
    return Clipping(tensor=worst, share=shares[worst], tensors=len(limits))


def _after_folding(name: str, source: onnx.ModelProto) -> str:
    """Return the tensor behind an activation that a quantizer may have folded into a range."""
    readers = [node for node in source.graph.node if name in node.input]
    folded = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
    return str(readers[0].output[0]) if folded else name


def _limits(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """Return the range of each float activation that is quantized with one constant scale."""
    graph = Graph(model)
    found: dict[str, tuple[float, float]] = {}
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear" or graph.is_constant(node.input[0]):
            continue
        scale = graph.constant(node.input[1])
        zero = graph.constant(node.input[2]) if len(node.input) > 2 else np.uint8(0)
        if scale is None or zero is None or scale.size != 1:
            continue
        kind = np.iinfo(np.asarray(zero).dtype)
        offset, step = int(np.asarray(zero).reshape(-1)[0]), float(scale.reshape(-1)[0])
        slack = (_SLACK * (kind.max - kind.min) + 0.5) * step
        low, high = (kind.min - offset) * step, (kind.max - offset) * step
        found[node.input[0]] = (low - slack, high + slack)
    return found
