"""FP16, for GPUs: weights and arithmetic in half precision, inputs and outputs as they were."""

from __future__ import annotations

import warnings

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Sums over many values and exponentials lose too much in half precision; the converter's own list
# leaves these out.
KEEP_FLOAT32 = ("LayerNormalization", "ReduceMean", "Softmax")


def halve_core(core: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a core to FP16, keeping float32 inputs and outputs.

    Args:
        core: A float32 model; it is not changed.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(core)
    with warnings.catch_warnings():
        # It warns of each constant below FP16's range, which it then clamps.
        warnings.simplefilter("ignore", UserWarning)
        half = convert_float_to_float16(
            copy, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEEP_FLOAT32]
        )
    # The converter appends its casts; a graph must list producers before readers.
    OnnxModel(half).topological_sort()
    assert isinstance(half, onnx.ModelProto)
    return half
