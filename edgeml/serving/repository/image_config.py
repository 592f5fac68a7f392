"""Configurations of what is around an image classifier: a picture's file in, a label out.

``clothing`` takes prepared pixels. ``clothing_encoded`` is an ensemble of ``clothing_decoder``, it,
and ``clothing_labels``: what JPEG or PNG saves on the wire, the server's CPU spends on decoding.
"""

from __future__ import annotations

from edgeml.serving.repository.config import tensor_row
from edgeml.serving.repository.contract import DECODER_PART, ENCODED_PART, Contract, signature_of
from edgeml.serving.repository.parts import ensemble_config, part_name, python_config

ENCODED_INPUT = "encoded"
_ENCODED_ROW = {"name": ENCODED_INPUT, "data_type": "TYPE_STRING", "dims": [1]}


def decoder_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the model that turns files into pixels.

    Args:
        contract: The contract of the model that takes the pixels.
        model: That model's name.
        version: The version to serve.
        max_batch_size: Most pictures of one run.

    Returns:
        Path below the model's folder to text.
    """
    return python_config(
        contract,
        part=DECODER_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        inputs=[_ENCODED_ROW],
        outputs=[tensor_row(spec) for spec in signature_of(contract).inputs],
    )


def encoded_config(
    contract: Contract, *, model: str, version: int, max_batch_size: int
) -> dict[str, str]:
    """Build the configuration of the model that takes files; see the one above."""
    pixels = {spec.name: spec.name for spec in signature_of(contract).inputs}
    return ensemble_config(
        contract,
        part=ENCODED_PART,
        model=model,
        version=version,
        max_batch_size=max_batch_size,
        first=(part_name(model, DECODER_PART), {ENCODED_INPUT: ENCODED_INPUT}, pixels),
        inputs=[_ENCODED_ROW],
    )
