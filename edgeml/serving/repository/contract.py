"""The contract: what a client must know of a model, carried by the server's own configuration.

It is written once, by ``publish``, as one JSON text in the parameter ``edgeml_contract``. The
backend checks its files against it and the client takes signature, labels and preprocessing from
it, so that server and client cannot disagree. It holds no measurement: those stay in the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from edgeml.core.bundle import Bundle
from edgeml.core.identity import ModelIdentity
from edgeml.core.manifest import ENGINE, Manifest, Variant
from edgeml.core.signature import ModelSignature
from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.opening import open_task
from edgeml.tasks.predictor import Task

CONTRACT_FORMAT = 1
PARAMETER = "edgeml_contract"

TOKENIZER_PART = "tokenizer"
LABELS_PART = "labels"
TEXT_PART = "text"
DECODER_PART = "decoder"
ENCODED_PART = "encoded"

Contract = Mapping[str, Any]


def contract_of(bundle: Bundle) -> dict[str, Any]:
    """Return the contract of a bundle, as JSON values.

    Args:
        bundle: The bundle that will be served.

    Returns:
        ``format``, ``bundle``, ``version``, ``task``, ``signature``, ``preprocessing`` (for text it
        holds the tokenizer's hash), ``labels``, ``multi_label``, ``variants`` (name to ``file``,
        ``precision``, ``sha256``), ``chosen``, ``cpu``: the variant that a CPU server runs, which
        is batch-safe, and ``gpu``: the one that was chosen for GPUs, or None.
    """
    manifest = bundle.manifest
    return {
        "format": CONTRACT_FORMAT,
        "bundle": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "signature": manifest.signature.to_json(),
        "preprocessing": dict(manifest.preprocessing),
        "labels": list(manifest.labels),
        "multi_label": manifest.multi_label,
        "variants": {
            variant.name: {
                "file": f"{variant.name}.onnx",
                "precision": variant.precision,
                "sha256": variant.sha256,
            }
            for variant in manifest.variants
        },
        "chosen": manifest.chosen,
        "cpu": served_on_cpu(manifest).name,
        "gpu": manifest.chosen_by_device.get("gpu"),
    }


def part_contract(contract: Contract, *, part: str, of: str) -> dict[str, Any]:
    """Return the contract of a model that stands before or behind another one.

    Args:
        contract: The other one's contract.
        part: ``tokenizer``, ``labels``, or ``text`` for the ensemble of all.
        of: The other one's name.
    """
    return {**contract, "part": part, "of": of}


def part_of(contract: Contract) -> tuple[str, str] | None:
    """Return which part of which model a contract is for; None for a model that is no part."""
    return (str(contract["part"]), str(contract["of"])) if "part" in contract else None


def served_on_cpu(manifest: Manifest) -> Variant:
    """Return what a CPU server shall run: the chosen variant, or the best that is batch-safe.

    A server runs ONNX Runtime: variants of other engines are passed over.

    Raises:
        InputError: No variant that was accepted gives the same answer whatever its neighbours.
    """
    chosen = manifest.variant(manifest.chosen_by_device.get("cpu", manifest.chosen))
    assert chosen is not None
    together = manifest.variant(manifest.chosen_for_batches)
    assert together is not None
    own = manifest.variant(manifest.chosen_by_engine.get(ENGINE, ""))
    for named in (chosen, together, own):
        if named is not None and named.batch_safe and named.engine == ENGINE:
            return named
    accepted = [
        variant
        for variant in manifest.variants
        if variant.batch_safe
        and variant.engine == ENGINE
        and variant.verdict in ("chosen", "passed", "reference")
    ]
    if not accepted:
        raise InputError(
            f"the bundle '{manifest.name}' has no accepted variant that is safe in a batch; a "
            "server joins requests and needs one; export again with a static or fp32 variant"
        )
    return max(accepted, key=lambda variant: variant.speedup or 1.0)


def encode_contract(contract: Contract) -> str:
    """Return the contract as one line of JSON, the same text for the same contract."""
    return json.dumps(contract, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode_contract(text: str) -> dict[str, Any]:
    """Read what :func:`encode_contract` wrote.

    Args:
        text: The value of the parameter ``edgeml_contract``.

    Returns:
        The contract.

    Raises:
        InputError: It is not JSON, of an unknown format, or lacks a key.
    """
    try:
        contract = json.loads(text)
        if contract["format"] != CONTRACT_FORMAT:
            raise InputError(
                f"the contract has format {contract['format']!r}; this edgeml reads "
                f"{CONTRACT_FORMAT}; publish the bundle again or install a matching edgeml"
            )
        ModelSignature.from_json(contract["signature"])
        for row in contract["variants"].values():
            _ = row["file"], row["sha256"], row["precision"]
        _ = contract["bundle"], contract["version"], contract["task"], contract["labels"]
        _ = contract["preprocessing"], contract["chosen"], contract["cpu"]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise InputError(
            f"the parameter {PARAMETER} is malformed ({type(exc).__name__}: {exc}); the text that "
            "'edgeml publish' writes was expected; publish the bundle again"
        ) from exc
    return dict(contract)


def differences(before: Contract, after: Contract) -> list[str]:
    """Return what a client that was made for one contract would get wrong under another.

    Other artefacts are no difference: a version that was trained again answers the same question.

    Args:
        before: The contract that the client was made for.
        after: The contract that the server carries now.
    """
    keys = ("task", "signature", "preprocessing", "labels", "multi_label")
    return [key for key in keys if before.get(key, False) != after.get(key, False)]


def signature_of(contract: Contract) -> ModelSignature:
    """Return the signature of a decoded contract."""
    return ModelSignature.from_json(contract["signature"])


def variant_of(contract: Contract, file: str) -> str:
    """Return the variant whose file this is, or the file's own name where there is none."""
    for name, row in contract["variants"].items():
        if row["file"] == file:
            return str(name)
    return file


def labels_of(contract: Contract) -> ClassLabels:
    """Return the labels of a contract."""
    return ClassLabels(
        names=tuple(str(label) for label in contract["labels"]),
        multi_label=bool(contract.get("multi_label", False)),
    )


def identity_in(contract: Contract, *, bundle: Bundle | None = None) -> ModelIdentity:
    """Return which model a decoded contract is of.

    Args:
        contract: What a server carries.
        bundle: The bundle that was published, where it is at hand.
    """
    return ModelIdentity(
        name=str(contract["bundle"]),
        version=str(contract["version"]),
        task=str(contract["task"]),
        labels=tuple(str(label) for label in contract["labels"]),
        multi_label=bool(contract.get("multi_label", False)),
        preprocessing=contract["preprocessing"],
        artefacts={name: str(row["sha256"]) for name, row in contract["variants"].items()},
        bundle=bundle,
    )


def task_of(contract: Contract, *, tokenizer: Callable[[], bytes] | None = None) -> Task:
    """Return the task that prepares inputs and reads outputs for this contract.

    Args:
        contract: A decoded contract.
        tokenizer: Returns the contents of ``tokenizer.json``; needed for token ids alone.

    Raises:
        InputError: The task is one that this edgeml cannot serve, or a tokenizer is needed and was
            not given, or is another one than the contract names.
        MissingExtraError: The extra [text] is not installed and a tokenizer is needed.
    """

    def missing() -> bytes:
        raise InputError(
            "this model takes token ids, and its tokenizer is in its bundle; give bundle=..., or "
            "use the model of the same name with '_text' behind it, which takes strings"
        )

    return open_task(
        str(contract["task"]),
        contract["preprocessing"],
        labels_of(contract),
        tokenizer=tokenizer or missing,
        signature=signature_of(contract),
    )
