"""Bundles that are damaged, hostile or foreign: each is refused, and the error says why."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeml.core.bundle import (
    Bundle,
    check_replaceable,
    staged_folder,
    write_bundle,
    write_golden,
)
from edgeml.errors import BundleError, InputError, IntegrityError
from tests.bundles import fill, golden, make_bundle, replace_listed, spoil

MODEL = "variants/fp32/model.onnx"
_SHA = "0" * 64
# A pickle of protocol 0 that would call print() when loaded.
_PICKLE = b"cbuiltins\nprint\n(S'loaded'\ntR."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "a.bundle").path


def test_a_sound_bundle_reads_and_verifies(folder: Path) -> None:
    bundle = Bundle.read(str(folder))
    checks = bundle.verify_files()
    assert [check.name for check in checks if not check.ok] == []
    assert {check.name for check in checks} == set(bundle.manifest.files)
    assert MODEL in bundle.manifest.files
    assert bundle.open_file(MODEL) == b"not a graphfp32"
    assert bundle.checked_path(MODEL).read_bytes() == b"not a graphfp32"


def test_variants_are_found_and_a_missing_one_names_the_others(folder: Path) -> None:
    bundle = Bundle.read(folder)
    assert bundle.variant().name == bundle.manifest.chosen == "int8"
    assert bundle.variant("fp32").name == "fp32"
    with pytest.raises(InputError, match="no variant 'int4'; this bundle has fp32, int8"):
        bundle.variant("int4")


def test_golden_examples_come_back(folder: Path) -> None:
    expected, got = golden(), Bundle.read(folder).golden()
    assert (got.inputs, got.tolerance) == (expected.inputs, expected.tolerance)
    assert set(got.outputs) == {"fp32", "int8"}
    np.testing.assert_array_equal(got.tensors["values"], expected.tensors["values"])
    for name, arrays in expected.outputs.items():
        np.testing.assert_array_equal(got.outputs[name]["sums"], arrays["sums"])
        assert got.outputs[name]["sums"].dtype == arrays["sums"].dtype


@dataclass(frozen=True, kw_only=True)
class UnreadableCase:
    """A change after which ``Bundle.read`` must refuse."""

    id: str
    change: Callable[[Path], object]
    says: str
    error: type[BundleError] = IntegrityError


def _manifest(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_bytes(data)


def _listing(path: str) -> Callable[[Path], object]:
    return lambda folder: spoil(folder, lambda value: value["files"].update({path: _SHA}))


def _schema(version: object) -> Callable[[Path], object]:
    return lambda folder: spoil(folder, lambda value: value.update(schema_version=version))


def _symlink(name: str, target: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).symlink_to(target)
        _listing(name)(folder)

    return change


def _symlinked_folder(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "model.onnx").write_bytes(b"x")
    (folder / "linked").symlink_to(outside)
    _listing("linked/model.onnx")(folder)


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _manifest_is_a_folder(folder: Path) -> None:
    _no_manifest(folder)
    (folder / "manifest.json").mkdir()


def _manifest_is_a_pipe(folder: Path) -> None:
    _no_manifest(folder)
    os.mkfifo(folder / "manifest.json")


def _manifest_is_huge(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(17 << 20)  # sparse: costs no disk


UNREADABLE = (
    UnreadableCase(id="no-manifest", change=_no_manifest, says="not a bundle", error=BundleError),
    UnreadableCase(
        id="manifest-folder", change=_manifest_is_a_folder, says="not a bundle", error=BundleError
    ),
    UnreadableCase(
        id="manifest-pipe", change=_manifest_is_a_pipe, says="not a bundle", error=BundleError
    ),
    UnreadableCase(id="manifest-huge", change=_manifest_is_huge, says="larger than 16777216 bytes"),
    UnreadableCase(id="empty", change=_manifest(b""), says="is not JSON"),
    UnreadableCase(
        id="broken-json", change=_manifest(b'{"schema_version": 1,'), says="is not JSON"
    ),
    UnreadableCase(id="binary", change=_manifest(b"\xff\xfe\x00\x01\x80"), says="is not JSON"),
    UnreadableCase(id="deep-json", change=_manifest(b"[" * 200_000), says="is not JSON"),
    UnreadableCase(id="deep-object", change=_manifest(b'{"a":' * 200_000), says="is not JSON"),
    UnreadableCase(id="endless-number", change=_manifest(b"1" * 10_000), says="is not JSON"),
    UnreadableCase(id="list", change=_manifest(b"[1, 2]"), says="no 'schema_version'"),
    UnreadableCase(id="text", change=_manifest(b'"schema_version"'), says="no 'schema_version'"),
    UnreadableCase(id="null", change=_manifest(b"null"), says="no 'schema_version'"),
    UnreadableCase(id="no-schema", change=_manifest(b"{}"), says="no 'schema_version'"),
    UnreadableCase(
        id="schema-of-tomorrow",
        change=_schema(2),
        says="schema_version is 2; this edgeml reads 1",
        error=BundleError,
    ),
    UnreadableCase(
        id="schema-text", change=_schema("1"), says="schema_version is '1'", error=BundleError
    ),
    UnreadableCase(
        id="schema-true", change=_schema(True), says="schema_version is True", error=BundleError
    ),
    UnreadableCase(
        id="schema-null", change=_schema(None), says="schema_version is None", error=BundleError
    ),
    UnreadableCase(
        id="schema-only", change=_manifest(b'{"schema_version": 1}'), says="does not fit schema 1"
    ),
    UnreadableCase(
        id="one-name-twice",
        change=lambda folder: spoil(folder, lambda v: v["variants"].append(v["variants"][0])),
        says="distinct names",
    ),
    UnreadableCase(
        id="chosen-missing",
        change=lambda folder: spoil(folder, lambda v: v.update(chosen="int4")),
        says="chosen is 'int4'",
    ),
    UnreadableCase(
        id="two-hashes",
        change=lambda folder: spoil(folder, lambda v: v["files"].update({MODEL: _SHA})),
        says="disagree about its hash",
    ),
    UnreadableCase(
        id="hash-is-null",
        change=lambda folder: spoil(folder, lambda v: v["files"].update({MODEL: None})),
        says="disagree about its hash",
    ),
    UnreadableCase(id="climbs-out", change=_listing("../x.onnx"), says="leaves the folder"),
    UnreadableCase(id="climbs-inside", change=_listing("a/../../x.onnx"), says="leaves the folder"),
    UnreadableCase(
        id="climbs-and-returns", change=_listing("a/../x.onnx"), says="leaves the folder"
    ),
    UnreadableCase(id="absolute", change=_listing("/etc/x.onnx"), says="leaves the folder"),
    UnreadableCase(id="backslash", change=_listing("..\\x.onnx"), says="leaves the folder"),
    UnreadableCase(id="empty-path", change=_listing(""), says="leaves the folder"),
    UnreadableCase(id="nul", change=_listing("a\0.onnx"), says="leaves the folder"),
    UnreadableCase(id="newline", change=_listing("a\nb.onnx"), says="leaves the folder"),
    UnreadableCase(id="lone-surrogate", change=_listing("\ud800.onnx"), says="leaves the folder"),
    UnreadableCase(
        id="symlink-outside", change=_symlink("out.json", "/etc/hostname"), says="leaves the folder"
    ),
    UnreadableCase(
        id="symlink-to-parent", change=_symlink("out.json", ".."), says="leaves the folder"
    ),
    UnreadableCase(
        id="symlink-loop", change=_symlink("loop.json", "loop.json"), says="leaves the folder"
    ),
    UnreadableCase(id="symlinked-folder", change=_symlinked_folder, says="leaves the folder"),
    UnreadableCase(id="pickle", change=_listing("model.pkl"), says="pickle never is"),
    UnreadableCase(
        id="torch", change=_listing("model.pt"), says="of a kind that no bundle may hold"
    ),
    UnreadableCase(id="no-suffix", change=_listing("model"), says="of a kind"),
)


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.id)
def test_an_unreadable_bundle_is_refused(folder: Path, case: UnreadableCase) -> None:
    case.change(folder)
    with pytest.raises(BundleError) as caught:
        Bundle.read(folder)
    assert type(caught.value) is case.error
    assert case.says in caught.value.reason
    assert caught.value.path == str(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000 + "/.."])
def test_a_path_that_is_no_folder_is_no_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises((BundleError, OSError)):
        Bundle.read(tmp_path / name)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.read(tmp_path / "file")


@dataclass(frozen=True, kw_only=True)
class DamageCase:
    """Damage of one file that the manifest does not know of."""

    id: str
    damage: Callable[[Path], object]
    says: str


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _as_link_outside(file: Path) -> None:
    outside = file.parents[3] / "same-contents"
    file.rename(outside)
    file.symlink_to(outside)


DAMAGE = (
    DamageCase(id="flipped-bit", damage=_flip, says="the manifest says"),
    DamageCase(id="missing", damage=Path.unlink, says="is missing"),
    DamageCase(id="truncated", damage=lambda file: os.truncate(file, 5), says="the manifest says"),
    DamageCase(id="emptied", damage=lambda file: os.truncate(file, 0), says="the manifest says"),
    DamageCase(
        id="longer",
        damage=lambda file: file.write_bytes(file.read_bytes() + b"\0"),
        says="the manifest says",
    ),
    DamageCase(id="pipe", damage=_as_pipe, says="is missing"),
    DamageCase(id="folder", damage=_as_folder, says="is missing"),
    DamageCase(id="link-outside", damage=_as_link_outside, says="leaves the folder"),
)


@pytest.mark.parametrize("case", DAMAGE, ids=lambda case: case.id)
def test_damage_after_reading_is_found_when_a_file_is_opened(
    folder: Path, case: DamageCase
) -> None:
    bundle = Bundle.read(folder)
    case.damage(folder / MODEL)
    for call in (bundle.open_file, bundle.checked_path):
        with pytest.raises(IntegrityError) as caught:
            call(MODEL)
        assert case.says in caught.value.reason
        assert MODEL in caught.value.reason
    (bad,) = (check for check in bundle.verify_files() if not check.ok)
    assert bad.name == MODEL
    assert case.says in bad.detail
    assert bundle.open_file("variants/int8/model.onnx") == b"not a graphint8"


def test_an_unlisted_file_is_named_and_never_opened(folder: Path) -> None:
    (folder / "variants/extra.onnx").write_bytes(b"x")
    bundle = Bundle.read(folder)
    (bad,) = (check for check in bundle.verify_files() if not check.ok)
    assert (bad.name, "does not list" in bad.detail) == ("variants/extra.onnx", True)
    for path in ("variants/extra.onnx", "manifest.json", "../a.bundle/" + MODEL, "x.pkl", ""):
        with pytest.raises(IntegrityError):
            bundle.open_file(path)
        with pytest.raises(IntegrityError):
            bundle.checked_path(path, check_hash=False)


def test_a_path_that_the_file_system_refuses_is_a_missing_file(folder: Path) -> None:
    name = "x" * 300 + ".onnx"
    _listing(name)(folder)
    bundle = Bundle.read(folder)
    with pytest.raises(IntegrityError, match="is missing"):
        bundle.open_file(name)
    assert [check.name for check in bundle.verify_files() if not check.ok] == [name]


def _npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


@dataclass(frozen=True, kw_only=True)
class ArchiveCase:
    """An archive whose hash is right and whose contents are not."""

    id: str
    data: bytes
    file: str = "golden/tensors.npz"


@pytest.mark.parametrize(
    "case",
    [
        # numpy stores an array of objects as a pickle.
        ArchiveCase(id="object-array", data=_npz(values=np.array([{}], dtype=object))),
        ArchiveCase(
            id="object-array-in-outputs",
            data=_npz(sums=np.array([{}], dtype=object)),
            file="golden/outputs-int8.npz",
        ),
        ArchiveCase(id="pickle", data=_PICKLE),
        ArchiveCase(id="empty", data=b""),
        ArchiveCase(id="half-a-zip", data=_npz(values=np.zeros(99))[:200]),
        ArchiveCase(id="bare-array", data=b"\x93NUMPY\x01\x00"),
        ArchiveCase(id="text", data=b"values: 1, 2, 3"),
        ArchiveCase(id="index-list", data=b"[]", file="golden/golden.json"),
        ArchiveCase(id="index-empty", data=b"{}", file="golden/golden.json"),
        ArchiveCase(id="index-broken", data=b"{", file="golden/golden.json"),
        ArchiveCase(id="index-deep", data=b"[" * 200_000, file="golden/golden.json"),
        ArchiveCase(
            id="index-numbers",
            data=b'{"inputs": [], "tensors": 5, "outputs": {}, "tolerance": {}}',
            file="golden/golden.json",
        ),
        ArchiveCase(
            id="index-climbs",
            data=b'{"inputs": [], "tensors": "../x.npz", "outputs": {}, "tolerance": {}}',
            file="golden/golden.json",
        ),
        ArchiveCase(
            id="index-tolerance",
            data=b'{"inputs": [], "tensors": "golden/tensors.npz", "outputs": {},'
            b' "tolerance": {"fp32": "much"}}',
            file="golden/golden.json",
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_hostile_archive_is_refused(
    folder: Path, case: ArchiveCase, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_listed(folder, case.file, case.data)
    with pytest.raises(IntegrityError) as caught:
        Bundle.read(folder).golden()
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("the bundle is damaged") <= 1
    assert capsys.readouterr().out == ""  # what the pickle would have printed


def test_broken_json_inside_is_refused(folder: Path) -> None:
    replace_listed(folder, "golden/golden.json", b"\xff{")
    with pytest.raises(IntegrityError, match="is not JSON"):
        Bundle.read(folder).read_json("golden/golden.json")


def test_a_kind_of_file_that_no_bundle_holds_is_not_written(tmp_path: Path) -> None:
    manifest = fill(tmp_path)
    (tmp_path / "weights.pkl").write_bytes(_PICKLE)
    with pytest.raises(ValueError, match=r"may not hold 'weights\.pkl'"):
        write_bundle(tmp_path, manifest, place=tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_manifest_that_fits_no_file_is_not_written(tmp_path: Path) -> None:
    manifest = fill(tmp_path)
    (tmp_path / MODEL).write_bytes(b"another graph")
    with pytest.raises(ValueError, match="disagree about its hash"):
        write_bundle(tmp_path, manifest, place=tmp_path)


def test_a_bundle_may_be_extended_in_its_folder(folder: Path) -> None:
    manifest = Bundle.read(folder).manifest
    write_golden(folder, replace(golden(), tolerance={"fp32": 0.5, "int8": 0.5}))
    bundle = write_bundle(folder, replace(manifest, version="2"), place=folder)
    assert [check.name for check in bundle.verify_files() if not check.ok] == []
    assert "manifest.json" not in bundle.manifest.files
    assert bundle.manifest.version == "2"


def test_the_manifest_is_readable_text(folder: Path) -> None:
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text)["files"][MODEL] in text
    assert len(text.splitlines()) > 40


def test_only_bundles_and_empty_places_are_replaced(folder: Path, tmp_path: Path) -> None:
    empty, full, file = tmp_path / "empty", tmp_path / "full", tmp_path / "file"
    empty.mkdir()
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    file.write_text("x")
    for place in (folder, empty, tmp_path / "new"):
        check_replaceable(place)
    for place in (full, file):
        with pytest.raises(InputError, match="is not a bundle") as caught:
            check_replaceable(place)
        assert caught.value.item == str(place)


def test_a_bundle_appears_whole_under_its_name(tmp_path: Path) -> None:
    place = tmp_path / "b.bundle"
    with staged_folder(place) as staged:
        write_bundle(staged, fill(staged), place=place)
        assert not place.exists()
    assert all(check.ok for check in Bundle.read(place).verify_files())


def test_a_manifest_that_still_parses_is_refused_when_it_changed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    file = bundle.path / "manifest.json"
    changed = file.read_text().replace('"opset": 18', '"opset": 19')
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(IntegrityError, match="changed since it was written"):
        Bundle.read(bundle.path)
