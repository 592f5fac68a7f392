"""Bundles for tests: small, valid, and then spoilt on purpose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.bundle import SEAL, Bundle, Golden, seal_of, write_bundle, write_golden
from edgeml.core.manifest import Manifest, Variant
from edgeml.core.signature import ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="values", dtype="float32", shape=("batch", 4)),),
    outputs=(TensorSpec(name="sums", dtype="float32", shape=("batch", 1)),),
)


def golden() -> Golden:
    """Golden examples that fit :data:`SIGNATURE`."""
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    sums = {"sums": values.sum(axis=1, keepdims=True)}
    return Golden(
        inputs=(),
        tensors={"values": values},
        outputs={"fp32": sums, "int8": sums},
        tolerance={"fp32": 1e-5, "int8": 0.1},
    )


def fill(folder: Path, *, contents: bytes = b"not a graph", version: str = "1") -> Manifest:
    """Write the files of a bundle and return a manifest that fits them."""
    variants = []
    for name in ("fp32", "int8"):
        file = folder / "variants" / name / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(contents + name.encode())
        variants.append(
            Variant(
                name=name,
                file=f"variants/{name}/model.onnx",
                precision=name,
                size_bytes=file.stat().st_size,
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                opset=18,
            )
        )
    write_golden(folder, golden())
    return Manifest(
        name="sums",
        version=version,
        task="tensor",
        signature=SIGNATURE,
        preprocessing={},
        labels=(),
        variants=tuple(variants),
        chosen="int8",
        chosen_by_device={"cpu": "int8", "gpu": "fp32"},
        files={variant.file: variant.sha256 for variant in variants},
        provenance={"seed": 0},
    )


def make_bundle(folder: Path, **options: Any) -> Bundle:
    """Write a whole bundle into a new folder."""
    folder.mkdir(parents=True)
    return write_bundle(folder, fill(folder, **options), place=folder)


def spoil(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON and seal it anew; a value that is returned replaces all of it."""
    file = folder / "manifest.json"
    value = json.loads(file.read_text())
    replacement = change(value)
    if SEAL in value:
        value[SEAL] = seal_of(value)
    file.write_text(json.dumps(value if replacement is None else replacement))


def replace_listed(folder: Path, relative: str, data: bytes) -> None:
    """Replace a listed file and its hash: what an attacker does, unlike an accident."""
    (folder / relative).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    spoil(folder, lambda value: value["files"].update({relative: digest}))
