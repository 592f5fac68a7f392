"""Configurations of the models around a text classifier: strings in, a label out.

``sentiment`` takes token ids. ``sentiment_text`` is an ensemble of ``sentiment_tokenizer``, it, and
``sentiment_labels``. The ensemble asks for its models by their exact version: after a publish that
was cut off it does not load, which is better than a tokenizer with another one's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.core.signature import TensorSpec
from edgeml.serving.config import (
    DEFAULT_CONFIG,
    ENSEMBLE,
    PYTHON,
    config_text,
    tensor_row,
)
from edgeml.serving.contract import (
    LABELS_PART,
    PARAMETER,
    TEXT_PART,
    TOKENIZER_PART,
    Contract,
    encode_contract,
    part_contract,
    signature_of,
)
from edgeml.tasks.text import OUTPUT

TEXT_INPUT = "text"
LABEL = "label"
TRUNCATED = TensorSpec(name="truncated", dtype="bool", shape=("batch", 1))

_TEXT_ROW = {"name": TEXT_INPUT, "data_type": "TYPE_STRING", "dims": [1]}
_LABEL_ROW = {"name": LABEL, "data_type": "TYPE_STRING", "dims": [1]}
_SCORES = "scores"
_INNER = "model_probabilities"


def part_name(model: str, part: str) -> str:
    """Return the name of a part: ``sentiment_tokenizer``."""
    return f"{model}_{part}"


def tokenizer_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the model that turns strings into ids.

    Args:
        contract: The contract of the model that takes the ids.
        model: That model's name.
        version: The version to serve.
        max_batch_size: Most texts of one run.

    Returns:
        Path below the model's folder to text.
    """
    ids = [tensor_row(spec) for spec in signature_of(contract).inputs]
    return _python(
        contract,
        part=TOKENIZER_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        inputs=[_TEXT_ROW],
        outputs=[*ids, tensor_row(TRUNCATED)],
    )


def labels_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the model that names the best label; see the one above.

    It hands the probabilities on as ``scores``. Triton 2.51 prunes an ensemble for requests of some
    of its outputs, and prunes too much where an output is also what another step takes.
    """
    return _python(
        contract,
        part=LABELS_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        inputs=[tensor_row(_output(contract))],
        outputs=[_LABEL_ROW, {**tensor_row(_output(contract)), "name": _SCORES}],
    )


def ensemble_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the string-in model; see the ones above."""
    ids = {spec.name: spec.name for spec in signature_of(contract).inputs}
    steps = [
        (
            part_name(model, TOKENIZER_PART),
            {TEXT_INPUT: TEXT_INPUT},
            {**ids, TRUNCATED.name: TRUNCATED.name},
        ),
        (model, ids, {OUTPUT: _INNER}),
        (part_name(model, LABELS_PART), {OUTPUT: _INNER}, {LABEL: LABEL, _SCORES: OUTPUT}),
    ]
    values = {
        **_common(
            contract, part=TEXT_PART, model=model, version=version, max_batch_size=max_batch_size
        ),
        "platform": ENSEMBLE,
        "input": [_TEXT_ROW],
        "output": [_LABEL_ROW, tensor_row(_output(contract)), tensor_row(TRUNCATED)],
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": name,
                    "model_version": version,
                    "input_map": inputs,
                    "output_map": outputs,
                }
                for name, inputs, outputs in steps
            ]
        },
    }
    return {DEFAULT_CONFIG: config_text(values)}


def _python(
    contract: Contract,
    *,
    part: str,
    model: str,
    version: int,
    max_batch_size: int,
    inputs: list[Mapping[str, Any]],
    outputs: list[Mapping[str, Any]],
) -> dict[str, str]:
    values = {
        **_common(contract, part=part, model=model, version=version, max_batch_size=max_batch_size),
        "backend": PYTHON,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "dynamic_batching": {},
    }
    return {DEFAULT_CONFIG: config_text(values)}


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


def _output(contract: Contract) -> TensorSpec:
    return next(spec for spec in signature_of(contract).outputs if spec.name == OUTPUT)
