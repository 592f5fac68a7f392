"""What a server says that it serves: read from its configuration, checked against its contract."""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError
from edgeml.serving.repository.config import ServedModel
from edgeml.serving.repository.contract import (
    ENCODED_PART,
    LABELS_PART,
    TEXT_PART,
    TOKENIZER_PART,
    Contract,
    decode_contract,
    differences,
    part_of,
    signature_of,
    variant_of,
)
from edgeml.serving.repository.image_config import ENCODED_INPUT
from edgeml.serving.repository.text_config import TEXT_INPUT

# Part that an ensemble is, to the name of what it takes.
_OBJECT_INPUTS = {TEXT_PART: TEXT_INPUT, ENCODED_PART: ENCODED_INPUT}


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a server serves under one version of a model.

    Attributes:
        version: The version that answers.
        model: Its configuration.
        contract: Its contract.
        signature: Inputs and outputs of the ONNX model; of a string-in model, those of the one that
            it runs.
        served_by: Who answers.
        variant: The variant that answers.
        object_input: Name of the one input of a model that takes strings, ``text``, or picture
            files, ``encoded``; None for one that takes tensors.
    """

    version: str
    model: ServedModel
    contract: Contract
    signature: ModelSignature
    served_by: str
    variant: str
    object_input: str | None = None


def step_behind(model: ServedModel) -> tuple[str, int] | None:
    """Return the model that an ensemble of strings or files runs, with its version, or None.

    Args:
        model: The configuration that a server sent.

    Raises:
        InputError: There is no contract in it, or it is a mere part of such an ensemble.
    """
    part = part_of(_contract_of(model))
    if part is None:
        return None
    name, of = part
    if name not in _OBJECT_INPUTS:
        kind = TEXT_PART if name in (TOKENIZER_PART, LABELS_PART) else ENCODED_PART
        raise InputError(f"it is the {name} of '{of}'; '{of}' or '{of}_{kind}' was expected")
    return next((step for step in model.steps if step[0] == of), (of, -1))


def served_from(model: ServedModel, *, version: str, behind: ServedModel | None = None) -> Served:
    """Return what a server's configuration says of a model.

    Args:
        model: The configuration that it sent.
        version: The version that answers.
        behind: Configuration of the model that such an ensemble runs; None for any other.

    Raises:
        InputError: There is no contract in it, or it contradicts the declared tensors or the model
            behind it.
    """
    contract = _contract_of(model)
    signature = signature_of(contract)
    onnx_model = behind or model
    _check_declared(onnx_model, signature)
    if behind is not None:
        changed = differences(contract, _contract_of(behind))
        if changed:
            raise InputError(
                f"it was published for another '{behind.name}' than is served "
                f"({', '.join(changed)})"
            )
    variant = variant_of(contract, onnx_model.artefact)
    return Served(
        version=version,
        model=model,
        contract=contract,
        signature=signature,
        served_by=f"triton/{onnx_model.device}/{variant}/{version}",
        variant=variant,
        object_input=None if behind is None else _OBJECT_INPUTS[(part_of(contract) or ("", ""))[0]],
    )


def _contract_of(model: ServedModel) -> Contract:
    if model.contract_text is None:
        raise InputError("it carries no edgeml contract")
    return decode_contract(model.contract_text)


def _check_declared(model: ServedModel, signature: ModelSignature) -> None:
    """Refuse a server whose declared tensors are not those of its contract."""
    if model.max_batch_size < 1:
        raise InputError("its max_batch_size is 0; at least 1 was expected")
    if model.signature is None:
        raise InputError(f"it runs on the backend '{model.backend}'; an ONNX model was expected")
    pairs = (
        *zip(model.signature.inputs, signature.inputs, strict=False),
        *zip(model.signature.outputs, signature.outputs, strict=False),
    )
    wanted = len(signature.inputs) + len(signature.outputs)
    if len(pairs) != wanted or not all(_agree(*pair) for pair in pairs):
        got = "; ".join(f"{one.name} {one.describe()}" for one, _ in pairs)
        expected = "; ".join(f"{other.name} {other.describe()}" for _, other in pairs)
        raise InputError(f"it declares {got} and its contract says {expected}")


def _agree(declared: TensorSpec, wanted: TensorSpec) -> bool:
    def free(spec: TensorSpec) -> list[int | None]:
        return [axis if isinstance(axis, int) else None for axis in spec.shape]

    same_name = declared.name == wanted.name and declared.dtype == wanted.dtype
    return same_name and free(declared) == free(wanted)
