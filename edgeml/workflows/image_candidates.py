"""The variants of an image classifier, made from one core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.exporting.assembling import assemble_image_classifier, scalar_normalisation
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.half import halve_core
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    StaticRecipe,
    early_convolutions,
    quantize_core,
)
from edgeml.tasks.image import ImageTask
from edgeml.workflows.candidates import Candidate, attempt


def make_image_candidates(
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

    def make() -> onnx.ModelProto:
        return assemble_image_classifier(halve_core(core), task.signature, task.preprocessing)

    attempt(made, make, verb="converted")
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

    def make() -> onnx.ModelProto:
        model = assemble_image_classifier(
            quantize_core(core, samples, recipe),
            task.signature,
            task.preprocessing,
            integer_input=recipe.input_scale is not None,
        )
        proof = prove_fusion(model, core, op_types=recipe.op_types, float_nodes=recipe.float_nodes)
        made.note_fusion(proof)
        return model

    attempt(made, make, verb="quantized")
    return made
