"""What the tests of serving share: a bundle, and a contract whose hashes never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeml.core.bundle import Bundle
from tests.unit.serving.tiny_bundle import make_tiny_bundle
from tests.unit.serving.tiny_text import make_text_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that no test changes."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.bundle")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def contract() -> dict[str, Any]:
    """A contract that depends on no file, for golden texts."""
    variants = {
        name: {"file": f"{name}.onnx", "precision": name, "sha256": letter * 64}
        for name, letter in (("fp32", "a"), ("fp16", "b"), ("int8", "c"))
    }
    return {
        "format": 1,
        "bundle": "clothing",
        "version": "7",
        "task": "image-classification",
        "signature": {
            "inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", 64, 64, 3]}],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
        },
        "preprocessing": {
            "kind": "image",
            "height": 64,
            "width": 64,
            "fit": "crop",
            "crop_fraction": 1.0,
            "resample": "bilinear",
            "normalisation": {
                "inside_graph": True,
                "mean": [127.0, 127.0, 127.0],
                "std": [128.0, 128.0, 128.0],
            },
        },
        "labels": ['T-shirt "top"', "Größe"],
        "multi_label": False,
        "variants": variants,
        "chosen": "int8",
        "cpu": "int8",
        "gpu": "fp16",
    }


@pytest.fixture(scope="session")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A text bundle that no test changes."""
    return make_text_bundle(tmp_path_factory.mktemp("bundles") / "sentiment.bundle")


@pytest.fixture
def text_contract(contract: dict[str, Any]) -> dict[str, Any]:
    """A text contract that depends on no file, for golden texts."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {
        **contract,
        "bundle": "sentiment",
        "task": "text-classification",
        "signature": {
            "inputs": [
                {"name": name, "dtype": "int64", "shape": ["batch", "sequence"]} for name in names
            ],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
        },
        "preprocessing": {
            "kind": "text",
            "tokenizer": "tokenizer.json",
            "tokenizer_sha256": "e" * 64,
            "max_length": 128,
            "inputs": list(names),
            "pad_id": 0,
        },
        "labels": ["negative", "positive"],
        "multi_label": True,
    }
