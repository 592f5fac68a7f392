"""Static INT8: which integer types for which machine, calibrated ranges, ONNX Runtime's quantizer.

ONNX Runtime's own defaults are the slow ones on x86 (signed activations), so nothing is left to
them. Its calibrators keep every activation in memory, or die on ragged shapes; ranges come from
:mod:`edgeml.exporting.ranges` instead, once for all recipes.
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
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeml.core.signature import Tensors
from edgeml.errors import ExportError
from edgeml.exporting.graph import CONTRIB
from edgeml.exporting.ranges import Histogram, Range, collect_histograms, float_tensors

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


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
        calibration: How ranges are taken from histograms: ``minmax``, ``percentile``, or ``mse``,
            the range whose rounding and clipping lose least.
        percent: Share of the values, in per cent, that ``percentile`` keeps.
        format: ``QDQ``, or ``QOperator`` for runtimes that fuse no pairs.
        num_samples: Calibration samples.
        op_types: Operators to quantize; empty means all that ONNX Runtime can.
        float_nodes: Names of nodes to leave in float.
        input_scale: Fixed scale and zero point of the input, where the contract gives them.
    """

    types: IntegerTypes
    per_channel: bool = True
    calibration: str = "minmax"
    percent: float = 99.99
    format: str = "QDQ"
    num_samples: int = 300
    op_types: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()
    input_scale: tuple[float, int] | None = None

    def __post_init__(self) -> None:
        if self.calibration not in ("minmax", "percentile", "mse"):
            raise ValueError(f"calibration is {self.calibration!r}; minmax, percentile or mse")
        if self.format not in ("QDQ", "QOperator"):
            raise ValueError(f"format is {self.format!r}; QDQ or QOperator")

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"kind": "static", **asdict(self)}

    def range_of(self, histogram: Histogram) -> Range:
        """Return the range that a tensor gets."""
        if self.calibration == "mse":
            return histogram.least_error()
        return histogram.percentile(100.0 if self.calibration == "minmax" else self.percent)


def early_convolutions(core: onnx.ModelProto) -> tuple[str, ...]:
    """Name the first sixth of the convolutions after the stem.

    They see the picture at its highest resolution and have the fewest channels: there INT8 loses
    most and gains least.
    """
    names = [node.name for node in core.graph.node if node.op_type == "Conv"]
    return tuple(names[1 : 1 + len(names) // 6])


def head_products(core: onnx.ModelProto) -> tuple[str, ...]:
    """Name the last product where it is no convolution: a classifier's head.

    It is a hundredth of the work; scores that are rounded to eight bits tie, and a few large
    weights take the range of all others.
    """
    heavy = [node for node in core.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    if len(heavy) < 2 or heavy[-1].op_type == "Conv" or not heavy[-1].name:
        return ()
    return (heavy[-1].name,)


def quantize_core(
    core: onnx.ModelProto,
    samples: npt.NDArray[np.float32] | Sequence[Tensors],
    recipe: StaticRecipe,
) -> onnx.ModelProto:
    """Prepare a core, calibrate it, and quantize it statically.

    Args:
        core: Batch first.
        samples: Real, preprocessed calibration inputs: float32 ``(samples, ...)`` for a core of one
            input, else one feed a sample.
        recipe: How.

    Returns:
        The quantized core, with the core's inputs and outputs.

    Raises:
        ExportError: ONNX Runtime's quantizer failed.
    """
    with tempfile.TemporaryDirectory(prefix="edgeml-quantize-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare_core(core, prepared)
        model = onnx.load(prepared)
        name = core.graph.input[0].name
        kept = samples[: recipe.num_samples]
        feeds: Sequence[Tensors] = (
            [{name: kept[index : index + 1]} for index in range(len(kept))]
            if isinstance(kept, np.ndarray)
            else kept
        )
        try:
            histograms = collect_histograms(model, float_tensors(model), feeds)
        except Exception as exc:
            raise failed(exc) from exc
        return quantize_prepared(prepared, histograms, recipe)


def quantize_prepared(
    prepared: Path, histograms: Mapping[str, Histogram], recipe: StaticRecipe
) -> onnx.ModelProto:
    """Quantize a prepared core with calibrated ranges.

    Args:
        prepared: File of :func:`prepare_core`.
        histograms: Of its float tensors.
        recipe: How.

    Raises:
        ExportError: ONNX Runtime's quantizer failed.
    """
    try:
        with quiet_quantizer():
            work = _quantizer(prepared, histograms, recipe)
            work.quantize_model()
            work.model.topological_sort()
    except Exception as exc:
        raise failed(exc) from exc
    made = work.model.model
    assert isinstance(made, onnx.ModelProto)
    return made


def _quantizer(prepared: Path, histograms: Mapping[str, Histogram], recipe: StaticRecipe) -> Any:
    model = load_model_with_shape_infer(prepared)
    ranges = {}
    for tensor, histogram in histograms.items():
        kept = recipe.range_of(histogram)
        ranges[tensor] = (np.array(kept.low, np.float32), np.array(kept.high, np.float32))
    calibrated = TensorsData(CalibrationMethod.MinMax, ranges)
    operators = list(recipe.op_types) or sorted({*QLinearOpsRegistry, *QDQRegistry})
    weights, activations = _TYPES[recipe.types.weights], _TYPES[recipe.types.activations]
    shared: tuple[Any, ...] = (
        calibrated,
        [],
        list(recipe.float_nodes),
        operators,
        _extra_options(model, recipe),
    )
    reduce_range = recipe.types.reduce_range
    if recipe.format == "QDQ":
        return QDQQuantizer(model, recipe.per_channel, reduce_range, weights, activations, *shared)
    mode, static = QuantizationMode.QLinearOps, True
    return ONNXQuantizer(
        model, recipe.per_channel, reduce_range, mode, static, weights, activations, *shared
    )


def _extra_options(model: onnx.ModelProto, recipe: StaticRecipe) -> dict[str, Any]:
    options: dict[str, Any] = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    if recipe.input_scale is not None:
        scale, zero_point = recipe.input_scale
        fixed = {
            "quant_type": _TYPES[recipe.types.activations],
            "scale": np.array(scale, dtype=np.float32),
            "zero_point": np.array(zero_point, dtype=recipe.types.activations),
        }
        options["TensorQuantOverrides"] = {model.graph.input[0].name: [fixed]}
    return options


def prepare_core(core: onnx.ModelProto, target: Path) -> None:
    """Fold batch norms and infer shapes; where symbolic inference cannot finish, without it.

    A graph with operators of ONNX Runtime's own has been rewritten by us: only shapes are inferred,
    without which the quantizer would leave its tensors in float.

    Raises:
        ExportError: ONNX Runtime cannot prepare it.
    """
    try:
        if any(node.domain == CONTRIB for node in core.graph.node):
            _infer_only(core, target)
        else:
            _pre_process(core, target)
    except Exception as exc:
        raise failed(exc) from exc


def _infer_only(core: onnx.ModelProto, target: Path) -> None:
    # ONNX's own inference does not know these operators; ONNX Runtime writes what it inferred.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        core.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _pre_process(core: onnx.ModelProto, target: Path) -> None:
    """Let ONNX Runtime prepare the core; what it leaves in the current folder is not ours."""
    with contextlib.chdir(target.parent):
        try:
            quant_pre_process(core, target)
        except Exception as exc:
            if "symbolic shape inference" not in str(exc):
                raise
            quant_pre_process(core, target, skip_symbolic_shape=True)


def failed(exc: Exception) -> ExportError:
    """Return the error that says in one line why a quantizer gave up."""
    if isinstance(exc, ExportError):
        return exc
    reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
    return ExportError(
        f"ONNX Runtime's quantizer failed ({reason}); the fp32 variant is not affected"
    )


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Keep the quantizer's notes, one for each tensor that it leaves in float, off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
