"""``edgeml export`` of an ``.onnx`` file, whole: data of each kind, goals, cache, report, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeml
from edgeml.core.progress import ProgressEvent
from edgeml.errors import InputError
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe, quantize_core
from edgeml.exporting.space import SpaceOptions, make_space
from edgeml.exporting.trials import Trial
from edgeml.workflows import proving
from edgeml.workflows.exporting import Exported, ExportSettings
from tests.unit.cli.conftest import Run, run
from tests.unit.workflows import planted

__all__ = ["run"]
SETTINGS = planted.SETTINGS
ROW_KEYS = {
    "name",
    "precision",
    "engine",
    "size_bytes",
    "accuracy",
    "accuracy_drop",
    "agreement",
    "p50_ms",
    "speedup",
    "verdict",
    "reason",
    "batch_safe",
    "reported_accuracy",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The classifier, its data, and a cache that this module's searches share."""
    place = tmp_path_factory.mktemp("graphs")
    planted.dear(place)
    planted.good(place)
    planted.fault(place, "collapsed")
    planted.data(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEML_SEARCH_CACHE", str(place / "cache"))
        yield place


def _only(*names: str) -> Any:
    """The real space, but for all trials of other names."""

    def space(core: onnx.ModelProto, assembly: Assembly, options: SpaceOptions) -> list[Trial]:
        wanted = ("fp32", *names)
        return [row for row in make_space(core, assembly, options) if row.name in wanted]

    return space


def _export(folder: Path, out: str, *names: str, **changes: Any) -> Exported:
    data = changes.pop("data", folder / "data.npz")
    source = changes.pop("source", folder / "dear.onnx")
    progress = changes.pop("progress", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        if names:
            patch.setattr(proving, "make_space", _only(*names))
        return edgeml.export(
            source,
            out=folder / f"{out}.bundle",
            data=data,
            settings=replace(SETTINGS, **changes),
            progress=progress,
        )


def _report(made: Exported) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((made.report / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def labelled(folder: Path) -> Exported:
    """A search with labels, and with blocks measured."""
    files = (str(folder / "good.onnx"),)
    return _export(folder, "labelled", "int8-qdq", "file-1", files=files, sensitivity=True)


def test_a_graph_becomes_a_bundle_that_loads(labelled: Exported) -> None:
    manifest = labelled.bundle.manifest
    assert (manifest.task, manifest.data) == ("tensor", "real")
    assert manifest.chosen != "fp32"
    assert not manifest.proven  # 48 samples prove no half point
    assert {row["verdict"] for row in labelled.rows} >= {"reference", "chosen"}
    assert {row["name"]: row for row in labelled.rows}["fp32"]["speedup"] == 1.0
    assert edgeml.verify(labelled.bundle.path).ok
    inputs, labels = planted.samples(8)
    with edgeml.load(labelled.bundle.path, num_threads=1) as predictor:
        scores = predictor.run({"x": inputs})["y"]
    np.testing.assert_array_equal(scores.argmax(axis=1), labels)


def test_the_report_holds_space_evidence_and_pictures(labelled: Exported) -> None:
    report = _report(labelled)
    assert {"recipe", "preset", "source", "rows", "metrics"} <= set(report)
    assert all(set(row) == ROW_KEYS for row in report["rows"])
    (space,) = report["tables"]
    assert [row[0] for row in space["rows"]] == ["fp32", "int8-qdq", "file-1"]
    splits = report["metrics"]["splits"]
    assert (splits["selection"], sum(splits.values())) == (48, 120)
    page = (labelled.report / "report.html").read_text()
    assert "Latency and quality" in page
    assert "Error for each millisecond saved" in page
    assert "<circle" in page
    assert "median latency" in page


def test_blocks_are_reported_with_their_errors(labelled: Exported) -> None:
    found = _report(labelled)["metrics"]["sensitivity"]
    assert found["trial"]
    assert found["complete"]
    assert 1 <= len(found["blocks"]) <= 16
    for row in found["blocks"]:
        assert row["nodes"]
        assert row["error"] >= 0
        assert row["error_per_ms"] == pytest.approx(row["error"] / max(row["saved_ms"], 1e-9))


def test_a_second_search_finds_everything_done(folder: Path, labelled: Exported) -> None:
    files = (str(folder / "good.onnx"),)
    again = _export(folder, "again", "int8-qdq", "file-1", files=files, sensitivity=True)
    figures = _report(again)["metrics"]
    assert figures["jobs_from_cache"] == figures["jobs"] > 3
    assert again.rows == labelled.rows
    assert again.bundle.manifest.chosen == labelled.bundle.manifest.chosen


@pytest.mark.parametrize("what", ["seed", "data"])
@pytest.mark.usefixtures("labelled")
def test_another_seed_or_other_data_is_another_search(folder: Path, what: str) -> None:
    (folder / "other").mkdir(exist_ok=True)
    other = planted.data(folder / "other", seed=1)
    changes = {"seed": {"seed": 5}, "data": {"data": other}}[what]
    made = _export(folder, f"other-{what}", "int8-qdq", budget_s=1e-6, **changes)
    # Nothing was known, and there was no time for anything but fp32.
    (row,) = [row for row in made.rows if row["name"] == "int8-qdq"]
    assert (row["verdict"], row["p50_ms"]) == ("untried", None)
    assert row["reason"].startswith("not tried: the budget of")
    assert made.bundle.manifest.chosen == "fp32"


@pytest.mark.usefixtures("labelled")
def test_a_search_that_was_interrupted_goes_on(folder: Path) -> None:
    def interrupt(event: ProgressEvent) -> None:
        if event.stage == "search" and event.note.startswith("collapsed"):
            raise KeyboardInterrupt

    changes: dict[str, Any] = {
        "seed": 9,
        "files": (str(folder / "good.onnx"), str(folder / "collapsed.onnx")),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "make_space", planted.files_alone)
        with pytest.raises(KeyboardInterrupt):
            _export(folder, "cut", progress=interrupt, **changes)
        assert not (folder / "cut.bundle").exists()
        made = _export(folder, "cut", budget_s=1e-6, **changes)
    verdicts = {row["name"]: row["verdict"] for row in made.rows}
    assert verdicts.pop("collapsed") == "untried"
    assert "untried" not in verdicts.values()
    assert len(verdicts) == 2


def test_without_labels_agreement_is_the_gate(folder: Path, tmp_path: Path) -> None:
    data = planted.data(tmp_path, labelled=False)
    files = (str(folder / "collapsed.onnx"), str(folder / "good.onnx"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "make_space", planted.files_alone)
        made = _export(folder, "unlabelled", data=data, files=files, outputs="classes")
    rows = planted.by_origin(made.rows, _report(made)["metrics"]["evidence"])
    assert rows["good"]["verdict"] == "chosen"
    assert "agreement with fp32: " in rows["good"]["reason"]
    assert rows["collapsed"]["reason"].startswith("agreement with fp32: 100.00 % flips")
    assert {row["accuracy"] for row in made.rows} == {None}


def test_without_data_nothing_is_calibrated_or_proven(folder: Path) -> None:
    made = _export(folder, "synthetic", data=None)
    manifest = made.bundle.manifest
    assert (manifest.data, manifest.proven) == ("synthetic", False)
    assert "no data was given: inputs are made up, and nothing is proven" in made.notes
    kinds = {row[0]: row[1] for row in _report(made)["tables"][0]["rows"]}
    assert {"fp32", "fp16"} <= set(kinds)
    assert "static" not in kinds.values()


def test_the_smallest_that_is_no_worse_is_chosen(folder: Path) -> None:
    made = _export(folder, "small", "int8-weights", "int4-weights", goal="size")
    rows = {row["name"]: row for row in made.rows}
    space = [row[0] for row in _report(made)["tables"][0]["rows"]]
    assert space == ["fp32", "int8-weights", "int4-weights"]
    chosen = rows[made.bundle.manifest.chosen]
    assert chosen["size_bytes"] < 0.5 * rows["fp32"]["size_bytes"]
    no_worse = [row for row in made.rows if row["verdict"] in ("passed", "chosen", "reference")]
    assert chosen["size_bytes"] == min(row["size_bytes"] for row in no_worse)
    assert chosen["reason"].startswith("smallest that is no worse: ")
    assert chosen["accuracy_drop"] <= 0.005


def test_what_is_quantized_already_is_kept_as_it_is(folder: Path) -> None:
    core = onnx.load(folder / "dear.onnx")
    inputs, _ = planted.samples(20)
    recipe = StaticRecipe(types=TYPES_BY_INSTRUCTION_SET["avx512_vnni"])
    source = planted.store(folder / "quantized.onnx", quantize_core(core, inputs, recipe))
    made = _export(folder, "kept", source=source)
    (row,) = made.rows
    assert (row["name"], row["precision"], row["verdict"]) == ("int8", "int8", "chosen")
    assert any("the source is quantized already" in note for note in made.notes)
    assert edgeml.verify(made.bundle.path).ok


def test_a_candidate_that_is_no_file_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(InputError, match="this candidate is no file"):
        _export(folder, "missing", files=(str(folder / "missing.onnx"),))
    assert not (folder / "missing.bundle").exists()


@pytest.mark.usefixtures("labelled")
def test_the_command_prints_what_others_rely_on(folder: Path, run: Run) -> None:
    arguments = ("--data", folder / "data.npz", "--candidate", folder / "good.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "make_space", _only("int8-qdq", "file-1"))
        done = run(
            *("export", folder / "dear.onnx", "--out", folder / "cli.bundle", "--json"),
            *(*arguments, "--threads", 1, "--budget", "5m"),
        )
    assert done.code == 0
    assert done.err == ""
    assert set(done.json) == {
        "bundle",
        "chosen",
        "chosen_for_batches",
        "chosen_by_device",
        "chosen_by_engine",
        "data",
        "proven",
        "variants",
        "report",
        "seconds",
        "notes",
    }
    assert done.json["bundle"] == str(folder / "cli.bundle")
    assert all(set(row) == ROW_KEYS for row in done.json["variants"])
    assert Path(done.json["report"], "report.html").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        {"budget_s": 0.0},
        {"budget_s": float("inf")},
        {"goal": "speed"},
        {"outputs": "boxes"},
        {"engines": ("openvino",)},
        {"num_threads": 0},
        {"seed": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"expected|must be"):
        ExportSettings(**changes)
