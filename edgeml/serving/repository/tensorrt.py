"""TensorRT as an accelerator of the ONNX Runtime backend; not run on a GPU.

Building an engine takes minutes, so engines are kept in a cache, and the shapes that one engine
serves are said beforehand: otherwise the first request of each new shape builds again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError

CACHE = "/var/cache/edgeml/tensorrt"


def accelerators(
    signature: ModelSignature, *, max_batch_size: int, longest: Mapping[str, int]
) -> dict[str, Any]:
    """Return the message ``optimization`` that asks for TensorRT on GPUs, as values.

    Args:
        signature: Inputs of the model.
        max_batch_size: Most samples of one run.
        longest: Name of a free axis to its largest size; the batch is not among them.

    Raises:
        InputError: An axis is free and its largest size is unknown.
    """
    half = max(1, max_batch_size // 2)
    shapes = {
        "min": [_shape(spec, 1, dict.fromkeys(longest, 1)) for spec in signature.inputs],
        "opt": [_shape(spec, half, _halves(longest)) for spec in signature.inputs],
        "max": [_shape(spec, max_batch_size, longest) for spec in signature.inputs],
    }
    parameters = {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": CACHE,
        **{f"trt_profile_{which}_shapes": ",".join(rows) for which, rows in shapes.items()},
    }
    row = {"name": "tensorrt", "parameters": parameters}
    return {"execution_accelerators": {"gpu_execution_accelerator": [row]}}


def _halves(longest: Mapping[str, int]) -> dict[str, int]:
    return {axis: max(1, size // 2) for axis, size in longest.items()}


def _shape(spec: TensorSpec, batch: int, sizes: Mapping[str, int]) -> str:
    axes = [batch]
    for axis in spec.shape[1:]:
        if isinstance(axis, str) and axis not in sizes:
            raise InputError(
                f"the axis '{axis}' of '{spec.name}' is free and its largest size is unknown; "
                "fixed axes were expected for TensorRT; export with fixed sizes, or publish "
                "without it"
            )
        axes.append(sizes[axis] if isinstance(axis, str) else axis)
    return f"{spec.name}:{'x'.join(map(str, axes))}"
