"""A graph as its file says it, without any optimisation: the yardstick of graphs from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import InferenceError


class PlainEngine:
    """Runs a graph node by node.

    Args:
        model: The graph.
        signature: What it takes and gives.
        num_threads: Threads of one run.
    """

    def __init__(
        self, model: onnx.ModelProto, signature: ModelSignature, *, num_threads: int
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._signature = signature

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device and what runs."""
        return "onnxruntime/cpu/source"

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run a feed.

        Raises:
            SignatureError: The feed does not fit.
            InferenceError: ONNX Runtime could not compute it.
        """
        self._signature.check_inputs(tensors)
        names = [spec.name for spec in self._signature.outputs]
        try:
            values = self._session.run(names, dict(tensors))
        except Exception as exc:
            raise InferenceError(reason=str(exc).splitlines()[0][:200]) from exc
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None
