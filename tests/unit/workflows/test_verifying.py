"""``edgeml.verify``: each kind of damage makes it fail and is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.core.bundle import Bundle, write_bundle
from edgeml.errors import BundleError, MissingExtraError
from edgeml.runtime import opening
from tests.bundles import replace_listed, spoil
from tests.pictures import rgb_file, scene
from tests.small import OUTPUT, make_small_bundle, small_classifier


def test_a_whole_bundle_is_ok(small: Path) -> None:
    found = edgeml.verify(small)
    assert found.ok
    names = [check.name for check in found.checks]
    listed = list(Bundle.read(small).manifest.files)
    assert names == [*listed, "golden preprocessing", "golden fp32", "golden int8", "host"]
    value = json.loads(json.dumps(found.to_json()))
    assert list(value) == ["ok", "checks"]
    assert all(set(row) == {"name", "ok", "detail"} for row in value["checks"])


def test_each_variant_replays_its_own_golden_examples(small_copy: Path) -> None:
    # A predictor would answer them, a batch, with another model.
    spoil(small_copy, lambda value: value["variants"][1].update(batch_safe=False))
    assert edgeml.verify(small_copy).ok
    _other_model(small_copy)
    failed = [check.name for check in edgeml.verify(small_copy).checks if not check.ok]
    assert failed == ["golden fp32"]


def test_another_machine_is_told_and_is_no_failure(tmp_path: Path) -> None:
    make_small_bundle(tmp_path / "b", tuned_for="some_other_set")
    found = edgeml.verify(tmp_path / "b")
    assert found.ok
    assert "tuned for some_other_set, this machine has" in found.checks[-1].detail


def test_an_engine_that_is_not_installed_is_told_and_is_no_failure(
    small_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise MissingExtraError(module="openvino", extra="openvino")

    spoil(small_copy, lambda value: value["variants"][1].update(engine="openvino"))
    assert edgeml.verify(small_copy).ok
    monkeypatch.setattr("edgeml.runtime.opening._OPENERS", {"openvino": missing, **_ONNXRUNTIME})
    found = edgeml.verify(small_copy)
    assert found.ok
    detail = {check.name: check.detail for check in found.checks}["golden int8"]
    assert detail.startswith("not run: the module 'openvino' is not installed")


_ONNXRUNTIME = {"onnxruntime": opening._OPENERS["onnxruntime"]}


def _flip(relative: str) -> Callable[[Path], object]:
    def damage(place: Path) -> None:
        data = bytearray((place / relative).read_bytes())
        data[len(data) // 2] ^= 1
        (place / relative).write_bytes(data)

    return damage


def _pack(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _outputs(array: Any, name: str = OUTPUT) -> Callable[[Path], object]:
    data = _pack(**{name: array})
    return lambda place: replace_listed(place, "golden/outputs-int8.npz", data)


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the golden index and its hash: a mistake of an exporter, not of a disk."""

    def damage(place: Path) -> None:
        value = json.loads((place / "golden/golden.json").read_text())
        change(value)
        replace_listed(place, "golden/golden.json", json.dumps(value).encode())

    return damage


def _other_model(place: Path) -> None:
    (place / "variants/fp32/model.onnx").write_bytes(small_classifier(seed=9).SerializeToString())
    manifest = Bundle.read(place).manifest
    row = manifest.variants[0]
    data = (place / row.file).read_bytes()
    replace_listed(place, row.file, data)

    def agree(value: dict[str, Any]) -> None:
        digest = value["files"][row.file]
        value["variants"][0].update(sha256=digest, size_bytes=len(data))

    spoil(place, agree)


@dataclass(frozen=True, kw_only=True)
class DamageCase:
    """Something done to a bundle, the check that must fail, and what it says."""

    id: str
    damage: Callable[[Path], object]
    check: str
    says: str


NAN = np.full((2, 4), np.nan, dtype=np.float32)
CASES = (
    DamageCase(
        id="flipped-model",
        damage=_flip("variants/int8/model.onnx"),
        check="variants/int8/model.onnx",
        says="sha256",
    ),
    DamageCase(
        id="flipped-golden",
        damage=_flip("golden/tensors.npz"),
        check="golden/tensors.npz",
        says="sha256",
    ),
    DamageCase(
        id="flipped-picture",
        damage=_flip("golden/inputs/0.png"),
        check="golden/inputs/0.png",
        says="sha256",
    ),
    DamageCase(
        id="missing",
        damage=lambda place: (place / "golden/outputs-fp32.npz").unlink(),
        check="golden/outputs-fp32.npz",
        says="missing",
    ),
    DamageCase(
        id="cut",
        damage=lambda place: (place / "variants/fp32/model.onnx").write_bytes(b"short"),
        check="variants/fp32/model.onnx",
        says="has 5 bytes",
    ),
    DamageCase(
        id="unlisted",
        damage=lambda place: (place / "variants/notes.json").write_text("{}"),
        check="variants/notes.json",
        says="does not list this file",
    ),
    DamageCase(
        id="unlisted-pickle",
        damage=lambda place: (place / "weights.pkl").write_bytes(b"\x80\x04."),
        check="weights.pkl",
        says="does not list this file",
    ),
    DamageCase(
        id="another-picture",
        damage=lambda place: replace_listed(place, "golden/inputs/0.png", rgb_file("BMP")[:-30]),
        check="golden preprocessing",
        says="damaged or truncated",
    ),
    DamageCase(
        id="other-pixels",
        damage=lambda place: replace_listed(place, "golden/inputs/0.png", _picture(255 - scene())),
        check="golden preprocessing",
        says="golden/inputs/0.png becomes other tensors than at export",
    ),
    DamageCase(
        id="no-tensors",
        damage=lambda place: replace_listed(place, "golden/tensors.npz", _pack(other=NAN)),
        check="golden preprocessing",
        says="do not cover its inputs",
    ),
    DamageCase(
        id="too-few-tensors",
        damage=lambda place: replace_listed(
            place, "golden/tensors.npz", _pack(image=np.zeros((1, 8, 8, 3), dtype=np.uint8))
        ),
        check="golden preprocessing",
        says="do not cover its inputs",
    ),
    DamageCase(id="another-model", damage=_other_model, check="golden fp32", says="largest diff"),
    DamageCase(id="other-outputs", damage=_outputs(NAN * 0 + 0.3), check="golden int8", says="of"),
    DamageCase(id="nan-outputs", damage=_outputs(NAN), check="golden int8", says="nan"),
    DamageCase(
        id="outputs-of-another-shape",
        damage=_outputs(NAN[:, :3]),
        check="golden int8",
        says="not among the model's answers",
    ),
    DamageCase(
        id="outputs-of-another-name",
        damage=_outputs(NAN, "logits"),
        check="golden int8",
        says="'logits'",
    ),
    DamageCase(
        id="variant-without-outputs",
        damage=_index(lambda value: value["outputs"].pop("int8")),
        check="golden int8",
        says="no golden outputs",
    ),
    DamageCase(
        id="variant-without-tolerance",
        damage=_index(lambda value: value["tolerance"].pop("int8")),
        check="golden int8",
        says="no golden outputs",
    ),
    DamageCase(
        id="index-without-inputs",
        damage=_index(lambda value: value.pop("inputs")),
        check="golden preprocessing",
        says="golden.json is malformed",
    ),
    DamageCase(
        id="another-task",
        damage=lambda place: spoil(place, lambda value: value.update(task="recommendation")),
        check="golden fp32",
        says="does not list 'recommendation/description.json'",
    ),
    DamageCase(
        id="contract-out-of-order",
        damage=lambda place: spoil(
            place, lambda value: value["preprocessing"].update(resample="magic")
        ),
        check="golden preprocessing",
        says="malformed",
    ),
)


def _picture(values: Any) -> bytes:
    from PIL import Image

    from tests.pictures import encode

    return encode(Image.fromarray(values), "PNG")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_damage_is_found_and_named(small_copy: Path, case: DamageCase) -> None:
    case.damage(small_copy)
    found = edgeml.verify(small_copy)
    assert not found.ok
    failed = {check.name: check.detail for check in found.checks if not check.ok}
    assert case.check in failed
    assert case.says in failed[case.check]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_bundle_without_golden_examples_is_not_ok(small: Path, tmp_path: Path) -> None:
    manifest = Bundle.read(small).manifest
    place = tmp_path / "b"
    for row in manifest.variants:
        (place / row.file).parent.mkdir(parents=True)
        (place / row.file).write_bytes((small / row.file).read_bytes())
    write_bundle(place, manifest, place=place)
    found = edgeml.verify(place)
    assert [check.detail for check in found.checks if not check.ok] == [
        "the bundle has no golden examples"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: [], "schema_version"),
        (lambda value: value.update(schema_version=9), "schema_version is 9"),
        (lambda value: value["files"].update({"../x.onnx": "0" * 64}), "leaves the folder"),
        (lambda value: value["files"].update({"x.pkl": "0" * 64}), "pickle never is"),
    ],
    ids=["no-manifest", "later-schema", "path-outside", "pickle"],
)
def test_what_is_no_readable_bundle_is_refused(small_copy: Path, change: Any, says: str) -> None:
    spoil(small_copy, change)
    with pytest.raises(BundleError, match=says):
        edgeml.verify(small_copy)


def test_json_that_is_broken_is_refused(small_copy: Path) -> None:
    (small_copy / "manifest.json").write_text('{"schema_version": 1,')
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        edgeml.verify(small_copy)
