"""What a signature says about batches: of one sample only, or of any number."""

from __future__ import annotations

from dataclasses import replace

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError

_BATCH = "batch"


def takes_one(signature: ModelSignature) -> bool:
    """Return whether a model takes one sample at a time: an input's first axis is fixed at 1."""
    return any(spec.shape[0] == 1 for spec in signature.inputs)


def with_free_batch(signature: ModelSignature) -> ModelSignature:
    """Return a signature whose first axes are all one free axis.

    Args:
        signature: Its first axes are free, or fixed at 1.

    Raises:
        InputError: An input's first axis is fixed at another size, so it is no sample's.

    Example:
        >>> one = TensorSpec(name="x", dtype="float32", shape=(1, 3))
        >>> with_free_batch(ModelSignature(inputs=(one,), outputs=(one,))).inputs[0].shape
        ('batch', 3)
    """
    for spec in signature.inputs:
        if isinstance(spec.shape[0], int) and spec.shape[0] != 1:
            raise InputError(
                f"the input '{spec.name}' is {spec.describe()}; a first axis that is free or 1 was "
                "expected, one entry a sample; export the model with a free batch"
            )
    firsts = [spec.shape[0] for spec in signature.inputs]
    inner = {axis for spec in (*signature.inputs, *signature.outputs) for axis in spec.shape[1:]}
    free = next((axis for axis in firsts if isinstance(axis, str)), _BATCH)
    while free in inner:  # an axis of another meaning has the name
        free = f"{free}_"

    def freed(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=(free, *spec.shape[1:]))

    return ModelSignature(
        inputs=tuple(map(freed, signature.inputs)), outputs=tuple(map(freed, signature.outputs))
    )
