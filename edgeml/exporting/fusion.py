"""Fusion proof: does the quantized graph really run quantized?

A QDQ graph is a promise; ONNX Runtime keeps it only where it can fuse. The proof opens the graph
as the runtime will execute it and counts kernels, so that a silent no-op is caught before anybody
times it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

MIN_SHARE = 0.8

_HEAVY = frozenset({"Conv", "MatMul", "Gemm"})
# What only the dynamic quantizer takes, and only where it is named.
_RECURRENT = frozenset({"LSTM"})
_QUANTIZED = frozenset(
    {
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "QAttention",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulNBits",
    }
)


@dataclass(frozen=True, kw_only=True)
class FusionProof:
    """What was found in the optimised graph.

    Attributes:
        requested: Conv, MatMul and Gemm nodes of the source graph that were to run quantized.
        quantized: Kernels in the optimised graph that do.
        kernels: Every operator of the optimised graph, counted.
        what: The operators that were to run quantized, in words.
    """

    requested: int
    quantized: int
    kernels: dict[str, int]
    what: str = "Conv/MatMul/Gemm"

    @property
    def share(self) -> float:
        """Quantized share of what was requested, at most 1."""
        return min(1.0, self.quantized / self.requested) if self.requested else 0.0

    @property
    def ok(self) -> bool:
        """Whether at least 80 % of what was requested runs quantized."""
        return self.share >= MIN_SHARE

    def to_json(self) -> dict[str, Any]:
        """Return the proof as JSON values."""
        return {
            "requested": self.requested,
            "quantized": self.quantized,
            "share": self.share,
            "kernels": self.kernels,
        }


def prove_fusion(
    quantized: onnx.ModelProto,
    source: onnx.ModelProto,
    *,
    op_types: Iterable[str] = (),
    float_nodes: Iterable[str] = (),
    num_requested: int | None = None,
) -> FusionProof:
    """Optimise a quantized model as the runtime does, and count its kernels.

    Args:
        quantized: The assembled INT8 model.
        source: The float core that it was made from.
        op_types: Operators that were to be quantized; empty means all of Conv, MatMul and Gemm.
        float_nodes: Names of nodes of the source that were to stay in float.
        num_requested: How many were to be quantized; None counts them by the two above.
    """
    wanted = (_HEAVY | _RECURRENT) & set(op_types) if op_types else _HEAVY
    kept = set(float_nodes)
    if num_requested is None:
        num_requested = sum(
            node.op_type in wanted and node.name not in kept for node in source.graph.node
        )
    kernels = Counter(node.op_type for node in optimised(quantized).graph.node)
    return FusionProof(
        requested=num_requested,
        quantized=sum(count for name, count in kernels.items() if name in _QUANTIZED),
        kernels=dict(sorted(kernels.items())),
        what="/".join(name for name in ("Conv", "MatMul", "Gemm", "LSTM") if name in wanted),
    )


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime's CPU provider executes at its full optimisation level."""
    with tempfile.TemporaryDirectory(prefix="edgeml-fusion-") as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # it warns that such a file is for this machine only: it is
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(path)
