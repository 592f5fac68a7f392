"""The variants of one export, made from one core; a failed conversion costs only itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.timing import Latency
from edgeml.exporting.assembling import assemble_image_classifier, scalar_normalisation
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.half import halve_core
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    StaticRecipe,
    early_convolutions,
    quantize_core,
)
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.image import ImageTask


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Prepared pictures of one split, uint8 ``(samples, height, width, 3)``, and their classes."""

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]


@dataclass(kw_only=True)
class Candidate:
    """One variant on its way to a verdict; fields fill up as it is measured.

    Attributes:
        name: Its name in the bundle.
        precision: ``fp32``, ``fp16`` or ``int8``.
        model: The assembled ONNX model.
        recipe: How it was made.
        tuned_for: Instruction set that it was made for, or None.
        broken: Why it cannot be used at all; its other fields then mean nothing.
        failures: Proofs that it did not pass; each a sentence.
        evidence: What was measured, by name, as JSON values.
        probabilities: float32 ``(samples, classes)`` on the selection split.
        latency: Its latency beside fp32's.
    """

    name: str
    precision: str
    model: onnx.ModelProto
    recipe: Mapping[str, Any]
    tuned_for: str | None = None
    broken: str = ""
    failures: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    probabilities: npt.NDArray[np.float32] | None = None
    latency: Latency | None = None

    def engine(self, task: ImageTask, *, num_threads: int) -> OnnxEngine:
        """Open this candidate's model."""
        return OnnxEngine(
            self.model.SerializeToString(),
            settings=SessionSettings(num_threads=num_threads),
            signature=task.signature,
            served_by=f"onnxruntime/cpu/{self.name}",
        )


def make_candidates(
    core: onnx.ModelProto,
    task: ImageTask,
    calibration: npt.NDArray[np.uint8],
    *,
    instruction_set: str,
) -> list[Candidate]:
    """Make fp32, fp16 and two forms of INT8 from one core.

    Args:
        core: Normalised pixels to logits, float32.
        task: The contract.
        calibration: Prepared training pictures, uint8 ``(samples, height, width, 3)``.
        instruction_set: What INT8 is made for, as ``edgeml.runtime.host`` names it.

    Returns:
        The candidates, fp32 first.
    """
    contract = task.preprocessing
    types = TYPES_BY_INSTRUCTION_SET[instruction_set]
    # The exact integer input needs unsigned activations: 0..255 is what an image holds.
    scale = scalar_normalisation(contract) if types.activations == "uint8" else None
    everything = StaticRecipe(types=types, num_samples=len(calibration), input_scale=scale)
    samples = contract.normalise(calibration)
    candidates = [
        Candidate(
            name="fp32",
            precision="fp32",
            model=assemble_image_classifier(core, task.signature, contract),
            recipe={"kind": "float"},
        ),
        _halve(core, task),
        _quantize(core, task, samples, everything, name="int8"),
    ]
    if early := early_convolutions(core):
        recipe = replace(everything, float_nodes=early)
        candidates.append(_quantize(core, task, samples, recipe, name="int8-early-float"))
    for candidate in candidates:
        if candidate.precision == "int8":
            candidate.tuned_for = instruction_set
    return candidates


def _halve(core: onnx.ModelProto, task: ImageTask) -> Candidate:
    made = Candidate(
        name="fp16",
        precision="fp16",
        model=onnx.ModelProto(),
        recipe={"kind": "half", "keep_io_types": True},
    )
    try:
        half = halve_core(core)
        made.model = assemble_image_classifier(half, task.signature, task.preprocessing)
    except Exception as exc:
        # Third-party converters raise anything; one that fails must not cost the other variants.
        made.broken = f"it cannot be converted ({_first_line(exc)})"
    return made


def _quantize(
    core: onnx.ModelProto,
    task: ImageTask,
    samples: npt.NDArray[np.float32],
    recipe: StaticRecipe,
    *,
    name: str,
) -> Candidate:
    made = Candidate(name=name, precision="int8", model=onnx.ModelProto(), recipe=recipe.to_json())
    try:
        made.model = assemble_image_classifier(
            quantize_core(core, samples, recipe),
            task.signature,
            task.preprocessing,
            integer_input=recipe.input_scale is not None,
        )
        proof = prove_fusion(
            made.model, core, op_types=recipe.op_types, float_nodes=recipe.float_nodes
        )
    except Exception as exc:
        # As above: ONNX Runtime's errors share no base.
        made.broken = f"it cannot be quantized ({_first_line(exc)})"
        return made
    made.evidence["fusion"] = proof.to_json()
    if not proof.ok:
        made.failures.append(
            f"only {proof.quantized} of {proof.requested} Conv/MatMul/Gemm run quantized"
        )
    return made


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]
