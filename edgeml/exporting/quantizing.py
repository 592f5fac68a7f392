"""Static INT8: which integer types for which machine, calibration, ONNX Runtime's quantizer.

ONNX Runtime's own defaults are the slow ones on x86 (signed activations), so nothing is left to
them.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeml.core.signature import Tensors
from edgeml.errors import ExportError
from edgeml.exporting.graph import CONTRIB

_CALIBRATION_BATCH = 16
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


@dataclass(frozen=True, kw_only=True)
class IntegerTypes:
    """Element types of a quantized graph.

    Attributes:
        activations: ``uint8`` or ``int8``.
        weights: ``int8``.
        reduce_range: Whether weights use seven bits, so that 16-bit sums cannot overflow.
    """

    activations: str
    weights: str
    reduce_range: bool


# What each instruction set multiplies fast and without saturating (x86: U8S8; ARM: S8S8).
TYPES_BY_INSTRUCTION_SET: Mapping[str, IntegerTypes] = {
    "amx_int8": IntegerTypes(activations="uint8", weights="int8", reduce_range=False),
    "avx512_vnni": IntegerTypes(activations="uint8", weights="int8", reduce_range=False),
    "avx_vnni": IntegerTypes(activations="uint8", weights="int8", reduce_range=False),
    "avx512": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
    "avx2": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
    "i8mm": IntegerTypes(activations="int8", weights="int8", reduce_range=False),
    "dotprod": IntegerTypes(activations="int8", weights="int8", reduce_range=False),
    "generic": IntegerTypes(activations="uint8", weights="int8", reduce_range=True),
}


@dataclass(frozen=True, kw_only=True)
class StaticRecipe:
    """How an INT8 graph is made; it is stored in the manifest.

    Attributes:
        types: Element types.
        per_channel: One scale for each output channel of a weight.
        calibration: ``minmax``, ``percentile`` or ``entropy``.
        num_samples: Calibration samples.
        op_types: Operators to quantize; empty means all that ONNX Runtime can.
        float_nodes: Names of nodes to leave in float.
        input_scale: Fixed scale and zero point of the input, where the contract gives them.
    """

    types: IntegerTypes
    per_channel: bool = True
    calibration: str = "minmax"
    num_samples: int = 300
    op_types: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()
    input_scale: tuple[float, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"kind": "static", "format": "QDQ", **asdict(self)}


def early_convolutions(core: onnx.ModelProto) -> tuple[str, ...]:
    """Name the first sixth of the convolutions after the stem.

    They see the picture at its highest resolution and have the fewest channels: there INT8 loses
    most and gains least.
    """
    names = [node.name for node in core.graph.node if node.op_type == "Conv"]
    return tuple(names[1 : 1 + len(names) // 6])


def quantize_core(
    core: onnx.ModelProto,
    samples: npt.NDArray[np.float32] | Sequence[Tensors],
    recipe: StaticRecipe,
) -> onnx.ModelProto:
    """Quantize a core statically, in QDQ form.

    Args:
        core: Batch first.
        samples: Real, preprocessed calibration inputs: float32 ``(samples, ...)`` for a core of one
            input, else one feed a sample.
        recipe: How.

    Returns:
        The quantized core, with the core's input and output.

    Raises:
        ExportError: ONNX Runtime's quantizer failed.
    """
    name = core.graph.input[0].name
    options: dict[str, Any] = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    if recipe.input_scale is not None:
        scale, zero_point = recipe.input_scale
        kind = _TYPES[recipe.types.activations]
        options["TensorQuantOverrides"] = {
            name: [
                {
                    "quant_type": kind,
                    "scale": np.array(scale, dtype=np.float32),
                    "zero_point": np.array(zero_point, dtype=recipe.types.activations),
                }
            ]
        }
    # The histogram methods of ONNX Runtime die on a smaller last batch.
    batch = _CALIBRATION_BATCH if recipe.calibration == "minmax" else 1
    with tempfile.TemporaryDirectory(prefix="edgeml-quantize-") as folder:
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            _prepare(core, prepared)
            with _quiet():
                quantize_static(
                    prepared,
                    target,
                    _Reader(name, samples, count=recipe.num_samples, batch=batch),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=list(recipe.op_types) or None,
                    nodes_to_exclude=list(recipe.float_nodes),
                    per_channel=recipe.per_channel,
                    reduce_range=recipe.types.reduce_range,
                    activation_type=_TYPES[recipe.types.activations],
                    weight_type=_TYPES[recipe.types.weights],
                    calibrate_method=_METHODS[recipe.calibration],
                    extra_options=options,
                )
        except Exception as exc:
            reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
            raise ExportError(
                f"ONNX Runtime's quantizer failed ({reason}); the fp32 variant is not affected"
            ) from exc
        return onnx.load(target)


def _prepare(core: onnx.ModelProto, target: Path) -> None:
    """Fold batch norms and infer shapes; where symbolic inference cannot finish, without it.

    A graph with operators of ONNX Runtime's own has been rewritten by us: only shapes are inferred,
    without which the quantizer would leave its tensors in float.
    """
    if any(node.domain == CONTRIB for node in core.graph.node):
        # ONNX's own inference does not know these operators; ONNX Runtime writes what it inferred.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(
            core.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return
    try:
        quant_pre_process(core, target)
    except Exception as exc:
        if "symbolic shape inference" not in str(exc):
            raise
        quant_pre_process(core, target, skip_symbolic_shape=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's notes, one for each tensor that it leaves in float, off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration samples in small batches: constant memory whatever their number."""

    def __init__(
        self,
        name: str,
        samples: npt.NDArray[np.float32] | Sequence[Tensors],
        *,
        count: int,
        batch: int,
    ) -> None:
        kept = samples[:count]
        if isinstance(kept, np.ndarray):
            self._batches: Iterator[Tensors] = (
                {name: kept[start : start + batch]} for start in range(0, len(kept), batch)
            )
        else:
            self._batches = iter(kept)

    def get_next(self) -> Tensors | None:
        return next(self._batches, None)
