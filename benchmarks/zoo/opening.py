"""A file to a call: one feed in, the logits out; one thread, whatever the engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from benchmarks.zoo.built import OUTPUT

Array = npt.NDArray[Any]
Call = Callable[[Mapping[str, Array]], Array]


def open_file(path: Path, engine: str, *, batch_of_one: bool = False) -> Call:
    """Open a file.

    Args:
        path: ``.onnx`` or OpenVINO's ``.xml``.
        engine: ``onnxruntime`` or ``openvino``.
        batch_of_one: For OpenVINO: fix the batch axis first, which it can use.

    Returns:
        A feed to the logits, an array that the next call may overwrite.
    """
    if engine == "onnxruntime":
        return _open_onnxruntime(path)
    return _open_openvino(path, batch_of_one=batch_of_one)


def _open_onnxruntime(path: Path) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [OUTPUT]

    def call(feed: Mapping[str, Array]) -> Array:
        logits: Array = session.run(outputs, feed)[0]
        return logits

    return call


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _open_openvino(path: Path, *, batch_of_one: bool) -> Call:
    model = _core().read_model(path)
    if batch_of_one:
        model.reshape({node.any_name: [1, *list(node.partial_shape)[1:]] for node in model.inputs})
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinning would hold it to one processor while a neighbour keeps that one busy.
        "ENABLE_CPU_PINNING": False,
    }
    request = _core().compile_model(model, "CPU", settings).create_infer_request()

    def call(feed: Mapping[str, Array]) -> Array:
        request.infer(feed, share_inputs=True)
        logits: Array = request.get_output_tensor(0).data
        return logits

    return call
