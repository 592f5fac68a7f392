"""Profiles beside bundles: used on this machine for this bundle, told otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edgeml.core.bundle import Bundle
from edgeml.errors import HostError
from edgeml.runtime import host_profile
from edgeml.runtime.host import detect_host
from edgeml.runtime.host_profile import Setup, find_profile, profile_place, write_profile
from tests.bundles import spoil

SETUP = Setup(variant="fp32", engine="onnxruntime", threads=1, spinning=False, arena=False)


@pytest.fixture
def bundle(small_copy: Path) -> Bundle:
    return Bundle.read(small_copy)


def test_what_is_written_is_found(bundle: Bundle) -> None:
    assert find_profile(bundle) is None
    place = write_profile(bundle, SETUP, [{"variant": "fp32"}])
    assert place == bundle.path.with_name("small.bundle.host.json").resolve()
    found = find_profile(bundle)
    assert found is not None
    assert (found.place, found.setup, found.problem) == (place, SETUP, "")
    value = json.loads(place.read_text())
    assert value["schema_version"] == 1
    assert value["host"].items() >= detect_host().to_json().items()
    assert value["host"].keys() >= {"onnxruntime", "openvino"}
    assert value["rows"] == [{"variant": "fp32"}]
    assert sorted(path.name for path in place.parent.glob("*host*")) == [place.name]
    assert sorted(path.name for path in place.parent.glob(".*")) == []


def test_a_link_to_a_bundle_has_the_bundles_profile(bundle: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle.path)
    assert profile_place(Bundle.read(link)) == profile_place(bundle)


@dataclass(frozen=True, kw_only=True)
class StaleCase:
    """A change after which a profile is of no use."""

    id: str
    change: Callable[[dict[str, Any]], object]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        StaleCase(
            id="cpu",
            change=lambda value: value["host"].update(cpu="another"),
            says="was made where cpu was another",
        ),
        StaleCase(
            id="instruction-set",
            change=lambda value: value["host"].update(instruction_set="sse"),
            says="was made where instruction_set was sse",
        ),
        StaleCase(
            id="threads",
            change=lambda value: value["host"].update(threads=999),
            says="was made where threads was 999",
        ),
        StaleCase(
            id="runtime",
            change=lambda value: value["host"].update(onnxruntime="0.1"),
            says="was made where onnxruntime was 0.1",
        ),
        StaleCase(
            id="no-host",
            change=lambda value: value.update(host={}),
            says="was made where architecture was None",
        ),
        StaleCase(
            id="seal",
            change=lambda value: value.update(manifest_sha256="0"),
            says="another state of the bundle",
        ),
        StaleCase(
            id="variant",
            change=lambda value: value["chosen"].update(variant="int4"),
            says="another state of the bundle",
        ),
        StaleCase(
            id="schema",
            change=lambda value: value.update(schema_version=2),
            says="schema version 2",
        ),
        StaleCase(
            id="threads-as-text",
            change=lambda value: value["chosen"].update(threads="2"),
            says="is damaged",
        ),
        StaleCase(
            id="too-many-threads",
            change=lambda value: value["chosen"].update(threads=100_000),
            says="is damaged",
        ),
        StaleCase(
            id="engine",
            change=lambda value: value["chosen"].update(engine="tensorrt", arena=True),
            says="wants tensorrt, which is not installed",
        ),
        StaleCase(
            id="no-arena-elsewhere",
            change=lambda value: value["chosen"].update(engine="openvino"),
            says="is damaged",
        ),
        StaleCase(id="no-choice", change=lambda value: value.pop("chosen"), says="is damaged"),
        StaleCase(
            id="list-of-hosts", change=lambda value: value.update(host=[1]), says="is damaged"
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_profile_of_something_else_is_no_setup(bundle: Bundle, case: StaleCase) -> None:
    place = write_profile(bundle, SETUP, [])
    value = json.loads(place.read_text())
    case.change(value)
    place.write_text(json.dumps(value))
    found = find_profile(bundle)
    assert found is not None
    assert found.setup is None
    assert case.says in found.problem


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000], ids=len)
def test_a_damaged_profile_is_no_setup(bundle: Bundle, data: bytes) -> None:
    profile_place(bundle).write_bytes(data)
    found = find_profile(bundle)
    assert found is not None
    assert found.setup is None
    assert "is damaged" in found.problem
    assert "\n" not in found.problem


def test_a_bundle_that_changed_has_no_profile(bundle: Bundle) -> None:
    write_profile(bundle, SETUP, [])
    spoil(bundle.path, lambda value: value.update(version="4"))
    found = find_profile(Bundle.read(bundle.path))
    assert found is not None
    assert "another state of the bundle" in found.problem


def test_another_engines_version_matters_where_it_was_chosen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(SETUP, engine="openvino", arena=True)
    for setup, problem in ((SETUP, False), (other, True)):
        write_profile(bundle, setup, [])
        with monkeypatch.context() as patch:
            patch.setattr(host_profile, "version", lambda _: "0.1")
            found = find_profile(bundle)
        assert found is not None
        assert bool(found.problem) is problem


def test_an_engine_that_is_gone_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(bundle, replace(SETUP, engine="openvino", arena=True), [])
    monkeypatch.setattr(host_profile, "installed_engines", lambda: ("onnxruntime",))
    found = find_profile(bundle)
    assert found is not None
    assert found.problem == "wants openvino, which is not installed"


def test_a_folder_that_cannot_be_written_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host_profile, "write_json", refuse)
    with pytest.raises(HostError, match="cannot be written"):
        write_profile(bundle, SETUP, [])
    assert list(bundle.path.parent.glob(".*")) == []
