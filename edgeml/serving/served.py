"""What a server says that it serves: read from its configuration, checked against its contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError
from edgeml.serving.config import ServedModel, describe, json_of
from edgeml.serving.contract import Contract, decode_contract, signature_of, variant_of


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a server serves under one version of a model."""

    version: str
    model: ServedModel
    contract: Contract
    signature: ModelSignature
    served_by: str


def served_from(config: Any, *, version: str) -> Served:
    """Return what a server's ``ModelConfig`` says of a model.

    Args:
        config: The message that it sent.
        version: The version that answers.

    Raises:
        InputError: There is no contract in it, or it contradicts the declared tensors.
    """
    model = describe(json_of(config))
    if model.contract_text is None:
        raise InputError("it carries no edgeml contract")
    contract = decode_contract(model.contract_text)
    signature = signature_of(contract)
    _check_declared(model, signature)
    variant = variant_of(contract, model.artefact)
    return Served(
        version=version,
        model=model,
        contract=contract,
        signature=signature,
        served_by=f"triton/{model.device}/{variant}/{version}",
    )


def address_of(url: str) -> str:
    """Return the ``host:port`` of a URL of gRPC.

    Raises:
        InputError: It is another kind of URL.
    """
    scheme, separator, address = url.partition("://")
    host, _, port = address.rpartition(":")
    if scheme in ("http", "https"):
        raise InputError(
            f"the URL is '{url}'; this client speaks gRPC; use grpc://host:port (Triton's default "
            "port is 8001)"
        )
    if scheme != "grpc" or not separator or not host or not port.isdecimal():
        raise InputError(f"the URL is '{url}'; grpc://host:port was expected")
    return address


def _check_declared(model: ServedModel, signature: ModelSignature) -> None:
    """Refuse a server whose declared tensors are not those of its contract."""
    if model.max_batch_size < 1:
        raise InputError("its max_batch_size is 0; at least 1 was expected")
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
