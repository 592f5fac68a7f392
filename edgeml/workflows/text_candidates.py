"""The variants of a text classifier, made from one core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from edgeml.errors import ExportError
from edgeml.exporting.assembling_text import assemble_text_classifier
from edgeml.exporting.attention import (
    count_attention,
    expand_attention,
    masked_additions,
    recognise_attention,
)
from edgeml.exporting.calibration_lint import Finding, lint_padding, lint_saturation
from edgeml.exporting.first_token import keep_first_token
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.half import halve_core
from edgeml.exporting.linear_quantizing import (
    LinearRecipe,
    linear_inputs,
    linear_products,
    quantize_linear_layers,
)
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    IntegerTypes,
    StaticRecipe,
    quantize_core,
)
from edgeml.exporting.ranges import Histogram, collect_histograms, ranges_of
from edgeml.tasks.samples import TextSamples
from edgeml.tasks.text import ATTENTION_MASK, TextTask
from edgeml.workflows.candidates import Candidate, attempt

_HELD_OUT = 64
# A rewritten core must answer these texts, padded to one length, as the exporter's does.
_COMPARED = 8
_MAX_DIFFERENCE = 1e-3

# Ranges that are tried: all but a ten-thousandth of the values, and all of them. All but a
# thousandth loses a point and a half on MiniLM-L6: its outliers carry meaning.
_PERCENTS: Mapping[str, float] = {"int8": 99.99, "int8-minmax": 100.0}


# ONNX Runtime's own static quantizer, on the products alone and on what lies between them too; the
# additions of the mask stay in float, since its far value would take the whole range.
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "int8-qdq": ("MatMul", "Gemm"),
    "int8-qdq-wide": ("MatMul", "Gemm", "Add", "Mul", "Gather"),
}


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """What variants are made from.

    Attributes:
        core: Ids to logits, float32, as the exporter wrote it.
        task: The contract.
        temperature: Divides the logits.
        calibration: Training texts.
        held_out: Texts that calibration does not see, to look for saturation.
    """

    core: onnx.ModelProto
    task: TextTask
    temperature: float
    calibration: TextSamples
    held_out: TextSamples


def make_text_candidates(
    source: TextSource, *, instruction_set: str
) -> tuple[list[Candidate], list[Finding]]:
    """Make fp32, fp32 with less work, fp16, and INT8 static and dynamic.

    Args:
        source: Core, contract, calibration.
        instruction_set: What INT8 is made for, as ``edgeml.runtime.host`` names it.

    Returns:
        The candidates, fp32 first; and what the calibration lint found.
    """
    lean, rewriting = _rewrite(source)
    histograms = _histograms(lean, source.calibration)
    held_out = _histograms(lean, source.held_out.first(_HELD_OUT))
    candidates = [
        _candidate(source, "fp32", "fp32", source.core, {"kind": "float"}),
        _halve(source),
    ]
    if rewriting["attention_layers"]:
        recipe: dict[str, object] = {"kind": "float", **rewriting}
        candidates.insert(1, _candidate(source, "fp32-lean", "fp32", lean, recipe))
    findings = _lint(source, histograms, held_out)
    types = TYPES_BY_INSTRUCTION_SET[instruction_set]
    recipes = {
        name: LinearRecipe(types=types, percent=percent, num_samples=len(source.calibration))
        for name, percent in _PERCENTS.items()
    }
    if types.activations == "uint8":  # what ONNX Runtime's dynamic quantization gives
        recipes["int8-dynamic"] = LinearRecipe(types=types, activations="dynamic", num_samples=0)
    made = [
        _quantize(source, lean, histograms, recipe, name=name) for name, recipe in recipes.items()
    ]
    made += [_quantize_static(source, lean, types, name=name) for name in _OPERATORS]
    for row in made:
        row.recipe = {**row.recipe, **rewriting}
        row.tuned_for = instruction_set
    return [*candidates, *made], findings


def _rewrite(source: TextSource) -> tuple[onnx.ModelProto, dict[str, object]]:
    """Return the core with less work in it and the same answers, and what was done.

    Where that fails, or the answers are others, the core is returned as it was.
    """
    core = source.core
    try:
        recognised = recognise_attention(core)
        narrowed = keep_first_token(recognised)
        lean = expand_attention(narrowed or recognised)
        apart = _largest_difference(core, lean, source.calibration.first(_COMPARED))
        if not apart <= _MAX_DIFFERENCE:
            raise ExportError(f"its logits differ by {apart:.2g}")
    except Exception as exc:  # ONNX Runtime's optimiser raises anything
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]
        return core, {"attention_layers": 0, "first_token": False, "not_rewritten": reason}
    return lean, {
        "attention_layers": count_attention(recognised),
        "first_token": narrowed is not None,
    }


def _largest_difference(
    core: onnx.ModelProto, lean: onnx.ModelProto, samples: TextSamples
) -> float:
    """Return how far two cores' logits lie apart, relative to their size, on padded texts."""
    feed = dict(samples.feed(range(len(samples))))
    answers = []
    for model in (core, lean):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        answers.append(session.run(None, feed)[0])
    size = max(1.0, float(np.abs(answers[0]).max()))
    return float(np.abs(answers[0] - answers[1]).max()) / size


def _histograms(model: onnx.ModelProto, samples: TextSamples) -> dict[str, Histogram]:
    feeds = (samples.feed([index]) for index in range(len(samples)))
    return collect_histograms(model, linear_inputs(model), feeds)


def _lint(
    source: TextSource, histograms: Mapping[str, Histogram], held_out: Mapping[str, Histogram]
) -> list[Finding]:
    masks = [source.calibration.feed([i])[ATTENTION_MASK] for i in range(len(source.calibration))]
    return [
        *lint_padding([np.asarray(mask) for mask in masks]),
        *lint_saturation(held_out, ranges_of(histograms, percent=100.0)),
    ]


def _candidate(
    source: TextSource,
    name: str,
    precision: str,
    core: onnx.ModelProto,
    recipe: Mapping[str, object],
) -> Candidate:
    return Candidate(
        name=name, precision=precision, model=_assemble(source, core), recipe=dict(recipe)
    )


def _assemble(source: TextSource, core: onnx.ModelProto) -> onnx.ModelProto:
    return assemble_text_classifier(
        core,
        source.task.signature,
        temperature=source.temperature,
        multi_label=source.task.labels.multi_label,
    )


def _halve(source: TextSource) -> Candidate:
    made = Candidate(
        name="fp16",
        precision="fp16",
        model=onnx.ModelProto(),
        recipe={"kind": "half", "keep_io_types": True},
    )
    attempt(made, lambda: _assemble(source, halve_core(source.core)), verb="converted")
    return made


def _quantize(
    source: TextSource,
    lean: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    recipe: LinearRecipe,
    *,
    name: str,
) -> Candidate:
    made = Candidate(name=name, precision="int8", model=onnx.ModelProto(), recipe=recipe.to_json())

    def make() -> onnx.ModelProto:
        ranges = ranges_of(histograms, percent=recipe.percent)
        model = _assemble(source, quantize_linear_layers(lean, recipe, ranges))
        proof = prove_fusion(model, lean, num_requested=len(linear_products(lean)))
        made.note_fusion(proof)
        return model

    attempt(made, make, verb="quantized")
    return made


def _quantize_static(
    source: TextSource, lean: onnx.ModelProto, types: IntegerTypes, *, name: str
) -> Candidate:
    samples = source.calibration
    recipe = StaticRecipe(
        types=types,
        num_samples=len(samples),
        op_types=_OPERATORS[name],
        float_nodes=masked_additions(lean),
    )
    made = Candidate(name=name, precision="int8", model=onnx.ModelProto(), recipe=recipe.to_json())

    def make() -> onnx.ModelProto:
        feeds = [samples.feed([index]) for index in range(len(samples))]
        model = _assemble(source, quantize_core(lean, feeds, recipe))
        proof = prove_fusion(model, lean, num_requested=len(linear_products(lean)))
        made.note_fusion(proof)
        return model

    attempt(made, make, verb="quantized")
    return made
