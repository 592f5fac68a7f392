"""Which files the ONNX Runtime of an NVIDIA container can open, by the container's tag.

A tag that is missing here was not found in a public source; the nearest older one is the safe
choice, since ONNX Runtime keeps opening what it once opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one release of ONNX Runtime opens.

    Attributes:
        version: Its version.
        opset: Newest version of the standard operators.
        ir_version: Newest version of the file format.
    """

    version: str
    opset: int
    ir_version: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """A container.

    Attributes:
        tag: Its tag, as in ``nvcr.io/nvidia/tritonserver:24.10-py3``.
        runtime: Its ONNX Runtime.
        contrib: Operators of ``com.microsoft`` that its ONNX Runtime is known to have.
    """

    tag: str
    runtime: Runtime
    contrib: frozenset[str]


# Opset and IR: the ONNX release that each was built with (onnx.helper.VERSION_TABLE), held against
# what users met as "Unsupported model IR version": onnxruntime#20559 (1.17 reads IR 9),
# onnxruntime#23602 (1.20.1 reads IR 10), winml-cli#245 (1.24 reads IR 11). Where a source left two
# answers the lower one stands.
_ORT_1_16 = Runtime(version="1.16", opset=19, ir_version=9)
_ORT_1_19 = Runtime(version="1.19", opset=21, ir_version=10)
_ORT_1_20 = Runtime(version="1.20", opset=21, ir_version=10)
_ORT_1_22 = Runtime(version="1.22", opset=22, ir_version=10)
_ORT_1_23 = Runtime(version="1.23", opset=23, ir_version=11)

_RUNTIMES = {
    "23.10": _ORT_1_16,  # 1.16.0; server#6459 reverted the update to 1.16.1
    "23.11": _ORT_1_16,  # 1.16.3; server#6618
    "23.12": _ORT_1_16,  # 1.16.3; build.py of 2.41.0
    "24.10": _ORT_1_19,  # 1.19.2; release notes
    "24.11": _ORT_1_19,  # between two releases with 1.19.2
    "24.12": _ORT_1_19,  # 1.19.2; release notes of 2.53
    "25.01": _ORT_1_20,  # between 1.19.2 and 1.20.1, which open the same files
    "25.02": _ORT_1_20,  # 1.20.1; build.py of 2.56.0dev
    "25.05": _ORT_1_22,  # 1.22.0; build.py of 2.58.0dev in server#8244
    "25.06": _ORT_1_22,  # 1.22.0; server#8244
    "25.11": _ORT_1_23,  # at least 1.23.1; server#8446
}

# From ONNX Runtime's docs/ContribOperators.md. Newer ones than 1.19 are left out: a warning about
# an operator that is there costs less than silence about one that is not.
_SINCE_1_16 = """
Attention AttnLSTM BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu CDist
ComplexMul ComplexMulConj ConvTransposeWithDynamicPads CropAndResize DecoderAttention
DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization ExpandDims
FastGelu FusedConv FusedGemm FusedMatMul GatherND Gelu GreedySearch GridSample GroupNorm
GroupQueryAttention Inverse Irfft LongformerAttention MatMulFpQ4 MatMulInteger16
MatMulIntegerToFloat MaxpoolWithMask MulInteger MultiHeadAttention MurmurHash3 NGramRepeatBlock
NhwcConv NhwcFusedConv NhwcMaxPool PackedAttention PackedMultiHeadAttention Pad QAttention
QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range ReduceSumInteger RelativePositionBias
RemovePadding RestorePadding Rfft RotaryEmbedding Sampling SkipLayerNormalization
SkipSimplifiedLayerNormalization SparseToDenseMatMul Tokenizer TransposeMatMul Trilu
UnfoldTensor Unique WordConvEmbedding
"""
_SINCE_1_19 = """
DynamicTimeWarping GemmaRotaryEmbedding MatMulBnb4 MatMulNBits MoE QMoE SkipGroupNorm
SparseAttention
"""

DEFAULT_TARGET = "24.10"
TARGETS = tuple(_RUNTIMES)


def find_target(tag: str) -> Target:
    """Return the container of a tag.

    Raises:
        InputError: The tag is not in the table.
    """
    runtime = _RUNTIMES.get(tag)
    if runtime is None:
        raise InputError(
            f"the target {tag!r} is not known; one of {', '.join(TARGETS)} was expected; take the "
            "nearest older one"
        )
    names = _SINCE_1_16 if runtime is _ORT_1_16 else _SINCE_1_16 + _SINCE_1_19
    return Target(tag=tag, runtime=runtime, contrib=frozenset(names.split()))
