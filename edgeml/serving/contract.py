"""The contract: what a client must know of a model, carried by the server's own configuration.

It is written once, by ``publish``, as one JSON text in the parameter ``edgeml_contract``. The
backend checks its files against it and the client takes signature, labels and preprocessing from
it, so that server and client cannot disagree. It holds no measurement: those stay in the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Manifest, Variant
from edgeml.core.signature import ModelSignature
from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask

CONTRACT_FORMAT = 1
PARAMETER = "edgeml_contract"

Contract = Mapping[str, Any]


def contract_of(bundle: Bundle) -> dict[str, Any]:
    """Return the contract of a bundle, as JSON values.

    Args:
        bundle: The bundle that will be served.

    Returns:
        ``format``, ``bundle``, ``version``, ``task``, ``signature``, ``preprocessing``, ``labels``,
        ``variants`` (name to ``file``, ``precision``, ``sha256``), ``chosen``, ``cpu``: the variant
        that a CPU server runs, which is batch-safe, and ``gpu``: the one that was chosen for GPUs,
        or None.
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


def served_on_cpu(manifest: Manifest) -> Variant:
    """Return what a CPU server shall run: the chosen variant, or the best that is batch-safe.

    Raises:
        InputError: No variant that was accepted gives the same answer whatever its neighbours.
    """
    chosen = manifest.variant(manifest.chosen_by_device.get("cpu", manifest.chosen))
    assert chosen is not None
    if chosen.batch_safe:
        return chosen
    accepted = [
        variant
        for variant in manifest.variants
        if variant.batch_safe and variant.verdict in ("chosen", "passed", "reference")
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
    keys = ("task", "signature", "preprocessing", "labels")
    return [key for key in keys if before[key] != after[key]]


def signature_of(contract: Contract) -> ModelSignature:
    """Return the signature of a decoded contract."""
    return ModelSignature.from_json(contract["signature"])


def variant_of(contract: Contract, file: str) -> str:
    """Return the variant whose file this is, or the file's own name where there is none."""
    for name, row in contract["variants"].items():
        if row["file"] == file:
            return str(name)
    return file


def task_of(contract: Contract) -> ImageTask:
    """Return the task that prepares inputs and reads outputs for this contract.

    Args:
        contract: A decoded contract.

    Raises:
        InputError: The task is one that this edgeml cannot yet serve.
    """
    if contract["task"] != "image-classification":
        raise InputError(
            f"the task '{contract['task']}' has no server client yet; 'image-classification' was "
            "expected; use the tensors of TritonEngine.run, or load the bundle in-process"
        )
    return ImageTask(
        preprocessing=ImagePreprocessing.from_json(contract["preprocessing"]),
        labels=ClassLabels(names=tuple(str(label) for label in contract["labels"])),
    )
