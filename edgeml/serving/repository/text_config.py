"""Configurations of what is around a text classifier: strings in, a label out.

``sentiment`` takes token ids. ``sentiment_text`` is an ensemble of ``sentiment_tokenizer``, it, and
``sentiment_labels``.
"""

from __future__ import annotations

from edgeml.core.signature import TensorSpec
from edgeml.serving.repository.config import tensor_row
from edgeml.serving.repository.contract import TEXT_PART, TOKENIZER_PART, Contract, signature_of
from edgeml.serving.repository.parts import ensemble_config, part_name, python_config

TEXT_INPUT = "text"
TRUNCATED = TensorSpec(name="truncated", dtype="bool", shape=("batch", 1))

_TEXT_ROW = {"name": TEXT_INPUT, "data_type": "TYPE_STRING", "dims": [1]}


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
    return python_config(
        contract,
        part=TOKENIZER_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        inputs=[_TEXT_ROW],
        outputs=[*ids, tensor_row(TRUNCATED)],
    )


def text_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the string-in model; see the one above."""
    ids = {spec.name: spec.name for spec in signature_of(contract).inputs}
    return ensemble_config(
        contract,
        part=TEXT_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        first=(
            part_name(model, TOKENIZER_PART),
            {TEXT_INPUT: TEXT_INPUT},
            {**ids, TRUNCATED.name: TRUNCATED.name},
        ),
        inputs=[_TEXT_ROW],
        outputs=[tensor_row(TRUNCATED)],
    )
