"""The search space: which trials a model is worth, best guesses first.

Declared as data and known before anything runs. What an operator set makes pointless is left out:
no integer linear layers for a network of convolutions, no dynamic quantization of convolutions,
which costs time on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from edgeml.exporting.assembly import Assembly
from edgeml.exporting.attention import masked_additions
from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    IntegerTypes,
    StaticRecipe,
    early_convolutions,
    head_products,
)
from edgeml.exporting.rewriting import wide_products
from edgeml.exporting.trials import Trial
from edgeml.exporting.weight_quantizing import DynamicRecipe, WeightRecipe

Goal = Literal["latency", "size"]
GOALS: tuple[Goal, ...] = ("latency", "size")

# Between the products of a transformer lies what loses accuracy and gains nothing in integers.
_PRODUCTS = ("MatMul", "Gemm")
_WIDE_PRODUCTS = ("MatMul", "Gemm", "Add", "Mul", "Gather")
_CONVOLUTIONS = ("Conv", "MatMul", "Gemm")
# Pooling and joining between quantized convolutions, without which each pays two conversions.
_CONVOLUTIONS_AND_JOINS = (
    *_CONVOLUTIONS,
    "Add",
    "Concat",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Relu",
    "Clip",
)
# What ONNX Runtime's dynamic quantizer takes, but for convolutions.
_AT_RUN_TIME = ("MatMul", "Gemm", "Gather", "LSTM", "Attention", "EmbedLayerNormalization")
# Variations that are worth their time on one engine alone.
_NOT_ELSEWHERE = frozenset(
    {
        "int8-early-float",
        "int8-head-float",
        "int8-joins",
        "int8-percentile",
        "int8-per-tensor",
        "int8-qdq-wide",
    }
)


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """What the caller allows.

    Attributes:
        instruction_set: What INT8 is made for.
        engines: Engines that may run a variant, the first always ``onnxruntime``.
        goal: ``latency``, or ``size``, which also tries weights in few bits.
        calibrated: Whether there is data to calibrate on.
        num_samples: Calibration samples.
        files: Variants that somebody else made.
    """

    instruction_set: str
    engines: tuple[str, ...] = ("onnxruntime",)
    goal: Goal = "latency"
    calibrated: bool = True
    num_samples: int = 300
    files: tuple[str, ...] = ()


def make_space(core: onnx.ModelProto, assembly: Assembly, options: SpaceOptions) -> list[Trial]:
    """Return the trials that a core is worth, fp32 first.

    Args:
        core: The float core.
        assembly: What goes around it.
        options: What is allowed.
    """
    counts = Counter(node.op_type for node in core.graph.node)
    types = TYPES_BY_INSTRUCTION_SET[options.instruction_set]
    trials = [
        Trial(name="fp32", kind="float", precision="fp32"),
        Trial(name="fp16", kind="half", precision="fp16"),
    ]
    quantized: list[Trial] = []
    has_products = bool(wide_products(core))
    transformer = has_products and counts["Softmax"] > 0
    if has_products and (transformer or not counts["Conv"]):
        if transformer:
            trials.insert(1, Trial(name="fp32-lean", kind="lean", precision="fp32"))
        quantized += _linear(core, types, options)
    if options.calibrated and counts["Conv"]:
        # A transformer on patches has both families, and "int8" is one of its linear layers'.
        lead = "int8-static" if quantized else "int8"
        found = _convolutional(core, assembly, types, options, counts)
        quantized += [replace(row, name=lead + row.name.removeprefix("int8")) for row in found]
    if _worth_run_time(counts, has_products=has_products, transformer=transformer):
        quantized += _at_run_time(types)
    trials += [replace(row, tuned_for=options.instruction_set) for row in quantized]
    if options.goal == "size" and has_products:
        trials += _weights()
    trials += _on_other_engines(trials, options)
    for number, file in enumerate(options.files, start=1):
        trials.append(Trial(name=f"file-{number}", kind="file", precision="int8", file=file))
    assert len({row.name for row in trials}) == len(trials)
    return trials


def keep_as_is(options: SpaceOptions) -> list[Trial]:
    """Return the trials of a model that is quantized already: itself, on each engine."""
    itself = Trial(name="int8", kind="float", precision="int8")
    trials = [itself]
    if "openvino" in options.engines:
        trials.append(itself.on_engine("openvino", inference_precision="f32"))
    for number, file in enumerate(options.files, start=1):
        trials.append(Trial(name=f"file-{number}", kind="file", precision="int8", file=file))
    return trials


def _trial(name: str, kind: str, recipe: object) -> Trial:
    return Trial(name=name, kind=kind, precision="int8", recipe=recipe)  # type: ignore[arg-type]


def _convolutional(
    core: onnx.ModelProto,
    assembly: Assembly,
    types: IntegerTypes,
    options: SpaceOptions,
    counts: Counter[str],
) -> list[Trial]:
    # The exact integer input needs unsigned activations: 0..255 is what an image holds.
    scale = assembly.input_scale() if types.activations == "uint8" else None
    everything = StaticRecipe(types=types, num_samples=options.num_samples, input_scale=scale)
    recipes = {"int8": everything}
    if head := head_products(core):
        recipes["int8-head-float"] = replace(everything, float_nodes=head)
    if early := early_convolutions(core):
        recipes["int8-early-float"] = replace(everything, float_nodes=early)
    narrow = _CONVOLUTIONS_AND_JOINS
    recipes["int8-joins"] = replace(everything, op_types=narrow)
    if counts["Sigmoid"] + counts["HardSigmoid"] + counts["HardSwish"] + counts["LSTM"]:
        recipes["int8-convolutions"] = replace(everything, op_types=_CONVOLUTIONS)
    recipes["int8-percentile"] = replace(everything, calibration="percentile")
    recipes["int8-mse"] = replace(everything, calibration="mse")
    if types.reduce_range:
        full = replace(types, weights="uint8", reduce_range=False)
        recipes["int8-unsigned"] = replace(everything, types=full)
    recipes["int8-per-tensor"] = replace(everything, per_channel=False)
    return [_trial(name, "static", recipe) for name, recipe in recipes.items()]


def _linear(core: onnx.ModelProto, types: IntegerTypes, options: SpaceOptions) -> list[Trial]:
    trials: list[Trial] = []
    static = LinearRecipe(types=types, num_samples=options.num_samples)
    if options.calibrated:
        # All but a thousandth would lose a point and a half on MiniLM-L6: outliers carry meaning.
        trials.append(_trial("int8", "linear", replace(static, percent=99.99)))
        trials.append(_trial("int8-minmax", "linear", replace(static, percent=100.0)))
    if types.activations == "uint8":  # what ONNX Runtime's dynamic quantization gives
        dynamic = replace(static, activations="dynamic", num_samples=0)
        trials.append(_trial("int8-dynamic", "linear", dynamic))
    if options.calibrated:
        names = {"int8-qdq": _PRODUCTS, "int8-qdq-wide": _WIDE_PRODUCTS, "int8-qdq-all": ()}
        additions = masked_additions(core)
        for name, operators in names.items():
            recipe = StaticRecipe(
                types=types,
                num_samples=options.num_samples,
                op_types=operators,
                float_nodes=additions,
            )
            trials.append(_trial(name, "static", recipe))
    return trials


def _worth_run_time(counts: Counter[str], *, has_products: bool, transformer: bool) -> bool:
    """Return whether ranges taken at run time can pay: never for convolutions alone."""
    return bool(counts["LSTM"]) or (has_products and (transformer or not counts["Conv"]))


def _at_run_time(types: IntegerTypes) -> list[Trial]:
    """Return ONNX Runtime's own dynamic quantization, one scale a tensor or one a channel.

    Its fused kernels beat ours on some graphs, such as small perceptrons, and lose on others.
    """
    one = DynamicRecipe(op_types=_AT_RUN_TIME, per_channel=False, reduce_range=types.reduce_range)
    many = replace(one, per_channel=True)
    return [
        _trial("int8-run-time", "dynamic", one),
        _trial("int8-run-time-channels", "dynamic", many),
    ]


def _weights() -> list[Trial]:
    return [
        Trial(
            name=f"int{bits}-weights",
            kind="weights",
            precision=f"int{bits}",
            recipe=WeightRecipe(bits=bits),
        )
        for bits in (8, 4)
    ]


def _on_other_engines(trials: Sequence[Trial], options: SpaceOptions) -> list[Trial]:
    """Return the same files under OpenVINO; where it cannot read one, that trial ends at once."""
    if "openvino" not in options.engines:
        return []
    made = []
    for row in trials:
        name = row.name.replace("int8-static", "int8")
        if row.precision == "fp16" or row.kind == "dynamic" or name in _NOT_ELSEWHERE:
            continue
        made.append(row.on_engine("openvino", inference_precision="f32"))
        if row.precision == "fp32":
            half = row.on_engine("openvino", inference_precision="bf16")
            made.append(replace(half, name=f"{row.name}-openvino-bf16", precision="bf16"))
    return made
