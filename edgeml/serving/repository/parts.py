"""Configurations of the models before and behind a published one, which it has in common.

A part carries the model's contract, and whose part it is; an ensemble asks for its models by their
exact version. After a publish that was cut off it does not load, which is better than one version's
preprocessing with another one's model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeml.core.signature import TensorSpec
from edgeml.serving.repository.config import (
    DEFAULT_CONFIG,
    ENSEMBLE,
    PYTHON,
    config_text,
    tensor_row,
)
from edgeml.serving.repository.contract import (
    LABELS_PART,
    PARAMETER,
    Contract,
    encode_contract,
    part_contract,
    signature_of,
)

LABEL = "label"
LABEL_ROW = {"name": LABEL, "data_type": "TYPE_STRING", "dims": [1]}
SCORES = "scores"
OUTPUT = "probabilities"
_INNER = "model_probabilities"
# Model, what of the ensemble it takes, and what it gives.
Step = tuple[str, Mapping[str, str], Mapping[str, str]]


def part_name(model: str, part: str) -> str:
    """Return the name of a part: ``sentiment_tokenizer``."""
    return f"{model}_{part}"


def python_config(
    contract: Contract,
    *,
    part: str,
    model: str,
    version: int,
    max_batch_size: int,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Build the configuration of a part that is a Python model on the CPU.

    Args:
        contract: The contract of the model that it is a part of.
        part: Which part.
        model: That model's name.
        version: The version to serve.
        max_batch_size: Most samples of one run.
        inputs: What it takes, as rows of a configuration.
        outputs: What it gives, likewise.

    Returns:
        Path below the part's folder to text.
    """
    values = {
        **_common(contract, part=part, model=model, version=version, max_batch_size=max_batch_size),
        "backend": PYTHON,
        "input": list(inputs),
        "output": list(outputs),
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    # Triton 2.51 hands strings to a Python model only after it has checked their lengths, and one
    # that is malformed fails all requests of its run. So those that take strings run alone.
    if not any(row["data_type"] == "TYPE_STRING" for row in inputs):
        values["dynamic_batching"] = {}
    return {DEFAULT_CONFIG: config_text(values)}


def labels_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the model that names the best label; see the one above.

    It hands the probabilities on as ``scores``. Triton 2.51 prunes an ensemble for requests of some
    of its outputs, and prunes too much where an output is also what another step takes.
    """
    return python_config(
        contract,
        part=LABELS_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        inputs=[tensor_row(probabilities_of(contract))],
        outputs=[LABEL_ROW, {**tensor_row(probabilities_of(contract)), "name": SCORES}],
    )


def ensemble_config(
    contract: Contract,
    *,
    part: str,
    model: str,
    version: int,
    max_batch_size: int,
    first: Step,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Build the configuration of the ensemble of a first part, the model, and its labels.

    Args:
        contract: The contract of the model.
        part: Which part the ensemble is.
        model: The model's name.
        version: The version of all of them.
        max_batch_size: Most samples of one run.
        first: The part before the model; what it gives is called as the model takes it.
        inputs: What the ensemble takes, as rows of a configuration.
        outputs: What it gives of the first part, beside label and probabilities.
    """
    taken = {spec.name: spec.name for spec in signature_of(contract).inputs}
    steps: tuple[Step, ...] = (
        first,
        (model, taken, {OUTPUT: _INNER}),
        (part_name(model, LABELS_PART), {OUTPUT: _INNER}, {LABEL: LABEL, SCORES: OUTPUT}),
    )
    values = {
        **_common(contract, part=part, model=model, version=version, max_batch_size=max_batch_size),
        "platform": ENSEMBLE,
        "input": list(inputs),
        "output": [LABEL_ROW, tensor_row(probabilities_of(contract)), *outputs],
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": name,
                    "model_version": version,
                    "input_map": dict(taken_from),
                    "output_map": dict(given_to),
                }
                for name, taken_from, given_to in steps
            ]
        },
    }
    return {DEFAULT_CONFIG: config_text(values)}


def probabilities_of(contract: Contract) -> TensorSpec:
    """Return the output that holds the probabilities."""
    return next(spec for spec in signature_of(contract).outputs if spec.name == OUTPUT)


def _common(
    contract: Contract, *, part: str, model: str, version: int, max_batch_size: int
) -> dict[str, Any]:
    text = encode_contract(part_contract(contract, part=part, of=model))
    return {
        "name": part_name(model, part),
        "max_batch_size": max_batch_size,
        "version_policy": {"specific": {"versions": [version]}},
        "parameters": {PARAMETER: {"string_value": text}},
    }
