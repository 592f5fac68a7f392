"""Quantizers that need no calibration: ranges taken at run time, or weights alone.

Dynamic: the activations' ranges come from the batch at hand, so an answer depends on its
neighbours; it is what recurrent layers have. Weights alone: a smaller file and float arithmetic.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeml.exporting.quantizing import failed, prepare_core, quiet_quantizer

_WEIGHTS = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


@dataclass(frozen=True, kw_only=True)
class DynamicRecipe:
    """How ONNX Runtime's dynamic quantizer is used.

    Attributes:
        op_types: Operators to quantize.
        weights: Element type of the weights: ``int8`` or ``uint8``.
        per_channel: One scale for each output channel.
        reduce_range: Whether weights use seven bits.
    """

    op_types: tuple[str, ...]
    weights: str = "int8"
    per_channel: bool = True
    reduce_range: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"kind": "dynamic", "activations": "dynamic", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class WeightRecipe:
    """How weights alone are stored in fewer bits.

    Attributes:
        bits: 4 or 8.
        block_size: Weights that share a scale.
        accuracy_level: 4 computes in integers, 1 in float; see ``MatMulNBits``.
    """

    bits: int
    block_size: int = 32
    accuracy_level: int = 4

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"kind": "weights", "format": "MatMulNBits", **asdict(self)}


def quantize_at_run_time(core: onnx.ModelProto, recipe: DynamicRecipe) -> onnx.ModelProto:
    """Quantize with ranges taken at run time.

    Raises:
        ExportError: ONNX Runtime's quantizer failed.
    """
    with tempfile.TemporaryDirectory(prefix="edgeml-quantize-") as folder:
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        prepare_core(core, prepared)
        try:
            with quiet_quantizer():
                quantize_dynamic(
                    prepared,
                    target,
                    op_types_to_quantize=list(recipe.op_types),
                    per_channel=recipe.per_channel,
                    reduce_range=recipe.reduce_range,
                    weight_type=_WEIGHTS[recipe.weights],
                    extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
                )
        except Exception as exc:
            raise failed(exc) from exc
        return onnx.load(target)


def quantize_weights(core: onnx.ModelProto, recipe: WeightRecipe) -> onnx.ModelProto:
    """Store the weights of MatMuls in blocks of few bits.

    Raises:
        ExportError: ONNX Runtime's quantizer failed.
    """
    # Imported here: this module of ONNX Runtime's sets up logging for the whole process.
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    copy = onnx.ModelProto()
    copy.CopyFrom(core)
    try:
        with quiet_quantizer():
            config = DefaultWeightOnlyQuantConfig(
                block_size=recipe.block_size,
                is_symmetric=True,
                accuracy_level=recipe.accuracy_level,
                bits=recipe.bits,
            )
            work = MatMulNBitsQuantizer(copy, algo_config=config)
            work.process()
    except Exception as exc:
        raise failed(exc) from exc
    made = work.model.model
    assert isinstance(made, onnx.ModelProto)
    return made
