"""Profiles of bundles never seen before, with real servers, in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.errors import BundleError, EdgemlError, InputError
from edgeml.workflows.profiling.profile import profile
from tests.tensors import TWO, make_tensor_bundle
from tests.text_bundles import make_text_bundle
from tests.unit.serving.tiny_bundle import make_tiny_bundle

SHORT = edgeml.ProfileSettings(
    repeats=1, run_s=0.15, server_s=0.4, offline_s=0.1, starts=1, retry_s=0.001, batch=4
)
KEYS = {
    *("target", "scenario", "placement", "threads", "batch", "p50_ms", "p90_ms", "p99_ms"),
    *("throughput_per_s", "errors", "accuracy", "valid", "reason"),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors and stages of a moment: their figures are not looked at here."""
    monkeypatch.setattr("edgeml.workflows.profiling.floors._SECONDS", 0.1)
    monkeypatch.setattr("edgeml.workflows.profiling.stages._CALLS", 20)


def bundle_of(kind: str, place: Path) -> Bundle:
    if kind == "image":
        return make_tiny_bundle(place / "image.bundle")
    if kind == "text":
        return make_text_bundle(place / "text.bundle")
    sample = {"values": np.float32([1, 2]), "weights": np.int64([3, 4])}
    return make_tensor_bundle(place / "tensor.bundle", TWO, [sample])


def check(found: edgeml.Profile, targets: list[str], scenarios: list[str]) -> None:
    assert {(row["target"], row["scenario"]) for row in found.rows} == {
        (target, scenario) for target in targets for scenario in scenarios
    }
    for row in found.rows:
        assert set(row) >= KEYS
        # A busy machine may be late with queries; none may be refused or fail.
        assert row["counts"]["error"] == row["counts"]["refused"] == 0, row["reason"]
        assert "are wrong" not in row["reason"]
        assert row["threads"] == 1
        assert row["placement"] == "co-located"
        assert row["throughput_per_s"] > 0
    assert set(found.recommendation) >= {"target", "reason", "margin"}
    assert found.recommendation["target"] in targets
    assert json.loads((found.folder / "report.json").read_text())["rows"]
    assert "<svg" in (found.folder / "report.html").read_text()
    assert (found.folder / "history.jsonl").read_text().count("\n") == 1
    logs = {path.name for path in (found.folder / "histograms").iterdir()}
    assert logs == {
        f"{target}-{scenario}{'-1' if scenario.endswith('stream') else ''}.hlog"
        for target in targets
        for scenario in {*scenarios, "single-stream"}
    }
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("kind", ["image", "text", "tensor"])
def test_edge_and_http(kind: str, tmp_path: Path) -> None:
    scenarios = ["single-stream"]
    if kind == "image":
        scenarios += ["multi-stream", "server", "offline"]
    found = profile(bundle_of(kind, tmp_path), scenarios=scenarios, settings=SHORT)
    check(found, ["edge", "http"], scenarios)
    assert found.folder == tmp_path / f"{kind}.bundle.profile"
    stages = {row["target"]: row["stages_ms"] for row in found.report["breakdown"]}
    assert stages["edge"]["infer"] > 0
    assert stages["edge"]["transport"] is None
    assert stages["http"]["transport"] > 0
    assert stages["http"]["infer"] > 0
    assert found.report["footprint"]["over_the_air_mb"] > 0
    assert found.report["memory_mb"]["http"] > 10


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "text", "tensor"])
def test_every_protocol_of_triton(kind: str, tmp_path: Path) -> None:
    targets = ["edge", "triton-grpc", "triton-http", "triton-http-json", "triton-shm"]
    found = profile(
        bundle_of(kind, tmp_path),
        targets=targets,
        scenarios=["single-stream"],
        settings=SHORT,
    )
    check(found, targets, ["single-stream"])
    stages = {row["target"]: row["stages_ms"] for row in found.report["breakdown"]}
    for name in targets[1:]:
        assert stages[name]["infer"] > 0, name
        assert stages[name]["queue"] is not None
        assert stages[name]["batch_wait"] is None
    assert stages["triton-http-json"]["serialise"] > 0


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    """An app that serves another model than the one that is profiled."""
    with edgeml.serve(make_tiny_bundle(tmp_path / "other.bundle", seed=9)) as served:
        yield served.url


def test_a_server_of_the_users_with_wrong_answers_is_invalid(other: str, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "mine.bundle", seed=0)
    found = profile(
        bundle,
        targets=["edge", f"http={other}"],
        scenarios=["single-stream"],
        settings=SHORT,
        out=tmp_path / "out",
    )
    row = next(row for row in found.rows if row["target"] == "http")
    assert (row["valid"], row["threads"]) == (False, None)
    assert "answers are wrong" in row["reason"]
    assert found.recommendation["target"] == "edge"


def test_what_cannot_be_profiled_is_said(tmp_path: Path, small: Path) -> None:
    with pytest.raises(InputError, match="'ray' cannot be profiled"):
        profile(small, targets=["edge", "ray"])
    with pytest.raises(BundleError, match="not a bundle"):
        profile(tmp_path / "nothing")
    with pytest.raises(EdgemlError) as caught:
        profile(small, targets=["http=http://127.0.0.1:9"], settings=SHORT, out=tmp_path)
    assert "\n" not in str(caught.value)
