"""What we need of OpenVINO itself: compiled models, their signatures, tensors, words of errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml._optional import require
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import BundleError, HostError, HostMismatchWarning

require("openvino", extra="openvino")
import openvino  # noqa: E402

PRECISIONS = ("f32", "bf16")

# OpenVINO's names of the element types that it computes without loss, but for wide integers.
_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "boolean": "bool",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
}
# What stands before the cause in OpenVINO's messages.
_PREAMBLE = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't", "Summary:")


def compile_model(model: Path | bytes, *, num_threads: int, precision: str, name: str) -> Any:
    """Read and compile a file for the CPU.

    Args:
        model: Path of the file, or its bytes.
        num_threads: Threads of one call.
        precision: One of :data:`PRECISIONS`.
        name: What to call the file in messages.

    Returns:
        OpenVINO's compiled model.

    Raises:
        BundleError: OpenVINO cannot run the file.
        HostError: This machine does not compute in this precision.
    """
    wanted = {
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # else fewer threads than were asked for
        # Left to itself it takes bf16 where the processor has it, and quantizes activations.
        "INFERENCE_PRECISION_HINT": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    try:
        core = openvino.Core()
        read = core.read_model(model if isinstance(model, bytes) else str(model))
        compiled = core.compile_model(read, "CPU", wanted)
    except Exception as exc:
        reason = f"OpenVINO cannot open it ({cause(exc)}); use a variant for onnxruntime"
        raise BundleError(path=name, reason=reason) from exc
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != precision:
        raise HostError(
            what=f"OpenVINO computes in {used} on this machine and {precision} was asked for",
            needed="name another variant or export on this machine",
        )
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    if threads != num_threads:
        text = f"OpenVINO runs {threads} threads on this machine; {num_threads} were asked for"
        warnings.warn(f"{text}; ask for {threads}", HostMismatchWarning, stacklevel=3)
    return compiled


def signature_of(compiled: Any, declared: ModelSignature | None, *, name: str) -> ModelSignature:
    """Return what a compiled model takes and gives, its free axes named anew.

    Args:
        compiled: OpenVINO's compiled model.
        declared: What it should; names tensors that have several names, and ranks left open.
        name: What to call the file in messages.

    Raises:
        BundleError: edgeml does not serve such tensors with OpenVINO.
    """
    sides = {"inputs": compiled.inputs, "outputs": compiled.outputs}
    found: dict[str, tuple[TensorSpec, ...]] = {}
    try:
        for side, ports in sides.items():
            known = {spec.name: spec for spec in getattr(declared, side)} if declared else {}
            found[side] = tuple(_spec(port, known) for port in ports)
        return ModelSignature(inputs=found["inputs"], outputs=found["outputs"])
    except KeyError as exc:
        reason = f"it has a tensor of the type {exc}, which edgeml does not serve with OpenVINO"
        raise BundleError(path=name, reason=reason) from exc
    except ValueError as exc:
        reason = f"edgeml does not serve such a model: {exc}"
        raise BundleError(path=name, reason=reason) from exc


def _spec(port: Any, declared: Mapping[str, TensorSpec]) -> TensorSpec:
    """Return what one input or output is; a tensor with several names has the declared one."""
    names = port.get_names()
    name = next((known for known in declared if known in names), port.get_any_name())
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        if name not in declared:
            raise ValueError(f"'{name}' has no known rank")
        shape = declared[name].shape
    else:
        shape = tuple(
            f"{name}_{position}" if axis.is_dynamic else axis.get_length()
            for position, axis in enumerate(partial)
        )
    return TensorSpec(
        name=name, dtype=_DTYPES[port.get_element_type().get_type_name()], shape=shape
    )


def shared_tensor(array: npt.NDArray[Any]) -> Any:
    """Return a tensor over an array's memory, or over a copy where it cannot be shared."""
    if not (array.flags.c_contiguous and array.flags.writeable):
        array = np.array(array, order="C")
    return openvino.Tensor(array, shared_memory=True)


def cause(exc: Exception) -> str:
    """Return the line of OpenVINO's message that says what happened."""
    lines = [line.strip() for line in str(exc).splitlines()]
    said = [line for line in lines if line and not line.startswith(_PREAMBLE)]
    return (said or lines or [type(exc).__name__])[0].removeprefix("-- ")[:200]
