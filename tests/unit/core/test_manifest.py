"""The manifest: a round trip for any that may exist, and refusals for the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from edgeml.core.manifest import SCHEMA_VERSION, Manifest
from tests.bundles import fill
from tests.strategies import manifests

# The documented keys: other programs read them.
TOP_KEYS = (
    "name",
    "version",
    "task",
    "signature",
    "preprocessing",
    "labels",
    "multi_label",
    "variants",
    "chosen",
    "chosen_for_batches",
    "chosen_by_device",
    "files",
    "provenance",
)
VARIANT_KEYS = (
    "name",
    "file",
    "precision",
    "size_bytes",
    "sha256",
    "opset",
    "tuned_for",
    "accuracy",
    "p50_ms",
    "speedup",
    "verdict",
    "reason",
    "batch_safe",
    "recipe",
    "evidence",
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return fill(tmp_path)


@given(manifests())
def test_json_brings_a_manifest_back(manifest: Manifest) -> None:
    text = json.dumps(manifest.to_json(), allow_nan=False)
    assert Manifest.from_json(json.loads(text)) == manifest


def test_the_keys_are_the_documented_ones(manifest: Manifest) -> None:
    value = manifest.to_json()
    assert next(iter(value)) == "schema_version"
    assert value["schema_version"] == SCHEMA_VERSION == 1
    assert set(value) >= set(TOP_KEYS)
    assert set(value["variants"][0]) >= set(VARIANT_KEYS)


def test_unknown_keys_are_ignored(manifest: Manifest) -> None:
    value = manifest.to_json()
    value["later"] = value["variants"][0]["later"] = 1
    assert Manifest.from_json(value) == manifest


@dataclass(frozen=True, kw_only=True)
class ManifestCase:
    """One change that makes a manifest impossible."""

    id: str
    change: Callable[[dict[str, Any]], object]
    error: type[Exception]
    says: str | None = None


def _variant(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["variants"][0].update({key: value})


def _top(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update({key: value})


BAD = (
    *(
        ManifestCase(id=f"no-{key}", change=lambda m, key=key: m.pop(key), error=KeyError, says=key)
        for key in ("name", "task", "signature", "labels", "variants", "chosen", "files")
    ),
    *(
        ManifestCase(id=f"{key}-is-a-number", change=_top(key, 5), error=TypeError)
        for key in TOP_KEYS
    ),
    *(
        ManifestCase(id=f"variant-{key}", change=_variant(key, [1]), error=TypeError, says=key)
        for key in VARIANT_KEYS
    ),
    ManifestCase(id="no-variants", change=_top("variants", []), error=ValueError, says="distinct"),
    ManifestCase(
        id="one-name-twice",
        change=lambda m: m["variants"].append(m["variants"][0]),
        error=ValueError,
        says="distinct",
    ),
    ManifestCase(
        id="chosen-missing",
        change=_top("chosen", "int4"),
        error=ValueError,
        says="chosen is 'int4'",
    ),
    ManifestCase(
        id="chosen-for-a-device-missing",
        change=_top("chosen_by_device", {"gpu": "bf16"}),
        error=ValueError,
        says="chosen for gpu is 'bf16'",
    ),
    ManifestCase(
        id="chosen-for-batches-missing",
        change=_top("chosen_for_batches", "int4"),
        error=ValueError,
        says="chosen for batches is 'int4'",
    ),
    ManifestCase(
        id="labels-of-another-text-classifier",
        change=lambda m: m.update(task="text-classification", labels=["a", "b"]),
        error=ValueError,
        says="the output has 1 classes and there are 2 labels",
    ),
    ManifestCase(
        id="two-hashes",
        change=_variant("sha256", "0" * 64),
        error=ValueError,
        says="'fp32' and files disagree",
    ),
    ManifestCase(
        id="variant-unlisted",
        change=lambda m: m["files"].pop(m["variants"][0]["file"]),
        error=ValueError,
        says="'fp32' and files disagree",
    ),
    ManifestCase(id="task", change=_top("task", "poetry"), error=ValueError, says="unknown task"),
    ManifestCase(
        id="safe-in-words",
        change=_variant("batch_safe", "false"),
        error=TypeError,
        says="batch_safe",
    ),
    ManifestCase(
        id="labels-are-text", change=_top("labels", "abc"), error=TypeError, says="labels"
    ),
    ManifestCase(
        id="shape-is-text",
        change=lambda m: m["signature"]["inputs"][0].update(shape="ab"),
        error=TypeError,
        says="shape",
    ),
)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_an_impossible_manifest_is_refused(manifest: Manifest, case: ManifestCase) -> None:
    value = json.loads(json.dumps(manifest.to_json()))
    case.change(value)
    with pytest.raises(case.error, match=case.says):
        Manifest.from_json(value)


def test_a_manifest_of_before_batches_had_their_own_variant_is_read(manifest: Manifest) -> None:
    value = manifest.to_json()
    del value["chosen_for_batches"], value["multi_label"]
    read = Manifest.from_json(value)
    assert (read.chosen_for_batches, read.multi_label) == (manifest.chosen, False)


def test_a_verdict_changes_nothing_else(manifest: Manifest) -> None:
    variant = manifest.variants[0]
    judged = variant.judged("rejected", "slower than fp32")
    assert (judged.verdict, judged.reason) == ("rejected", "slower than fp32")
    assert replace(judged, verdict=variant.verdict, reason=variant.reason) == variant


def test_a_variant_is_found_by_name(manifest: Manifest) -> None:
    assert manifest.variant("int8") is manifest.variants[1]
    assert manifest.variant("int4") is None
