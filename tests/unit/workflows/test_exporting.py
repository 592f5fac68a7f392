"""``edgeml.export``: what is chosen, on which data, and that nothing half-written is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.core.progress import ProgressEvent
from edgeml.errors import BundleError, DataError, ExportError, InputError, ParityError
from edgeml.exporting.building import Workshop
from edgeml.exporting.checks import PARITY_TOLERANCE
from edgeml.exporting.trials import Trial
from edgeml.tasks.samples import ArraySamples, Samples
from edgeml.training.checkpoint import read_checkpoint
from edgeml.workflows.exporting import Exported, ExportSettings
from edgeml.workflows.stored_samples import store_samples
from tests.trained import GATE, TIMING, Trained, make_pictures
from tests.unit.workflows.test_candidates import latency

SETTINGS = ExportSettings(num_threads=1, timing=TIMING)
SPEEDS = {"fp32": 1.0, "fp16": 0.7, "int8": 2.0}


@pytest.fixture
def quick(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Exports that trace and quantize nothing anew."""
    trained.quicken(monkeypatch, tmp_path / "searches")
    return trained


def _export(trained: Trained, out: Path, **options: Any) -> Exported:
    values: dict[str, Any] = {"settings": SETTINGS, "gate": GATE, **options}
    return edgeml.export(trained.checkpoint, out=out, **values)


def _pretend(monkeypatch: pytest.MonkeyPatch, *, stable: bool = True, **speeds: float) -> None:
    """Let the clock say what it is told, when candidates are screened and at the end."""
    told = {**SPEEDS, **speeds}
    monkeypatch.setattr(
        "edgeml.workflows.trial_steps._screen",
        lambda _, trial, __: asdict(latency(told[trial.name], stable=stable)),
    )
    monkeypatch.setattr(
        "edgeml.workflows.trial_worker.compare_latency",
        lambda calls, **_: {name: latency(told[name], stable=stable) for name in calls},
    )


def test_the_fastest_that_is_no_worse_is_chosen(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch)
    made = _export(quick, tmp_path / "mine.bundle", version="7")
    manifest = made.bundle.manifest
    assert (manifest.name, manifest.version, manifest.chosen) == ("mine", "7", "int8")
    assert manifest.chosen_by_device == {"cpu": "int8", "gpu": "fp16"}
    rows = {row["name"]: row for row in made.rows}
    assert [row["verdict"] for row in made.rows] == ["reference", "rejected", "chosen"]
    assert rows["int8"]["reason"].startswith("fastest that is no worse: 2.00x")
    assert (rows["int8"]["speedup"], rows["fp32"]["speedup"]) == (2.0, 1.0)
    assert edgeml.verify(made.bundle.path).ok
    value = made.to_json()
    assert set(value) == {
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
    assert set(value["variants"][0]) >= {
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
    }


def test_when_nothing_is_faster_fp32_is_chosen_and_says_why(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, int8=0.9)
    manifest = _export(quick, tmp_path / "b").bundle.manifest
    assert manifest.chosen == "fp32"
    fp32, int8 = manifest.variant("fp32"), manifest.variant("int8")
    assert fp32
    assert int8
    assert (fp32.verdict, int8.verdict) == ("chosen", "rejected")
    assert fp32.reason == "none of fp16, int8 is no worse and proven faster here"
    assert int8.reason.startswith("not proven faster than fp32 on this host: 0.90x")
    with edgeml.load(tmp_path / "b", variant="int8", num_threads=1) as predictor:
        assert predictor.served_by.endswith("int8/1")  # rejected, and loadable by name


def test_an_unstable_measurement_proves_nothing(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, stable=False)
    assert _export(quick, tmp_path / "b").bundle.manifest.chosen == "fp32"


def _mislabelled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its classes in another order."""
    end = model.graph.node[-1]
    axis = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [3], [1, 2, 0])
    model.graph.initializer.append(axis)
    model.graph.node.append(
        onnx.helper.make_node("Gather", ["unordered", "order"], list(end.output), axis=1)
    )
    end.output[0] = "unordered"
    return model


def _spoil(
    quick: Trained,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    how: Callable[[onnx.ModelProto], onnx.ModelProto] = _mislabelled,
) -> None:
    def build(_: Workshop, trial: Trial) -> tuple[onnx.ModelProto, None]:
        model = quick.model(trial.name)
        return how(model) if trial.name == name else model, None

    monkeypatch.setattr(Workshop, "build", build)


def test_a_variant_that_answers_worse_is_rejected_however_fast(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "int8")
    _pretend(monkeypatch, int8=9.0)
    made = _export(quick, tmp_path / "b", gate=edgeml.Gate())
    (int8,) = [row for row in made.rows if row["name"] == "int8"]
    assert made.bundle.manifest.chosen == "fp32"
    assert int8["verdict"] == "rejected"
    assert int8["reason"].startswith("accuracy drop +")
    assert int8["accuracy_drop"] > 0.5
    assert int8["agreement"] < 0.5


def test_an_fp16_that_answers_wrongly_is_not_for_gpus(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "fp16")
    _pretend(monkeypatch)
    manifest = _export(quick, tmp_path / "b").bundle.manifest
    assert manifest.chosen_by_device == {"cpu": "int8", "gpu": "fp32"}
    fp16 = manifest.variant("fp16")
    assert fp16
    assert fp16.reason.startswith("differs from its source by")


def test_an_fp32_that_is_not_the_checkpoint_ends_the_export(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "fp32")
    with pytest.raises(ParityError, match="variant 'fp32' differs from its source") as caught:
        _export(quick, tmp_path / "b")
    assert caught.value.max_abs_diff > caught.value.tolerance
    assert not (tmp_path / "b").exists()


def _swayed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, but the first sample of a batch answers for all."""
    end = model.graph.node[-1]
    first = onnx.helper.make_tensor("first", onnx.TensorProto.INT64, [1], [0])
    model.graph.initializer.append(first)
    made = [
        onnx.helper.make_node("Gather", ["alone", "first"], ["leader"], axis=0),
        onnx.helper.make_node("Sub", ["alone", "alone"], ["nothing"]),
        onnx.helper.make_node("Add", ["nothing", "leader"], list(end.output)),
    ]
    end.output[0] = "alone"
    model.graph.node.extend(made)
    return model


def test_one_that_depends_on_neighbours_answers_single_items_only(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "int8", how=_swayed)
    _pretend(monkeypatch)
    made = _export(quick, tmp_path / "b")
    manifest = made.bundle.manifest
    assert (manifest.chosen, manifest.chosen_for_batches) == ("int8", "fp32")
    assert made.to_json()["chosen_for_batches"] == "fp32"
    (row,) = [row for row in made.rows if row["name"] == "int8"]
    assert row["batch_safe"] is False
    assert row["reason"].endswith("for single items only: answers depend on neighbours")
    # It is judged by what it answers alone.
    assert row["accuracy"] > 0.5
    assert edgeml.verify(made.bundle.path).ok


def test_an_fp32_that_depends_on_neighbours_ends_the_export(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "fp32", how=_swayed)
    # Parity, which looks at batches, would notice most of them; it shall not be the only one.
    monkeypatch.setitem(PARITY_TOLERANCE, "fp32", 1.0)
    with pytest.raises(ExportError, match="its answers depend on their neighbours"):
        _export(quick, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_each_split_has_one_use(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def kept(folder: Path, samples: Samples) -> None:
        assert isinstance(samples, ArraySamples)
        seen[folder.name] = samples.array
        store_samples(folder, samples)

    monkeypatch.setattr("edgeml.workflows.searching.store_samples", kept)
    _pretend(monkeypatch)
    made = _export(quick, tmp_path / "b")
    pictures = {}
    for part in ("train", "validation", "test"):
        tensors, targets = edgeml.load_split(quick.checkpoint, part=part)
        pictures[part] = ({image.tobytes() for image in tensors["image"]}, tensors, targets)
    calibration = {image.tobytes() for image in seen["calibration"]}
    assert calibration <= pictures["train"][0]
    assert not calibration & (pictures["validation"][0] | pictures["test"][0])
    assert {image.tobytes() for image in seen["selection"]} <= pictures["validation"][0]
    # Variants are chosen on one part and reported on another.
    for row in made.rows:
        with edgeml.load(tmp_path / "b", variant=row["name"], num_threads=1) as predictor:
            for part, key in (("validation", "accuracy"), ("test", "reported_accuracy")):
                _, tensors, targets = pictures[part]
                answers = predictor.run(tensors)["probabilities"].argmax(axis=1)
                assert row[key] == pytest.approx(np.mean(answers == targets))


def test_a_checkpoints_split_is_disjoint_and_whole(trained: Trained) -> None:
    checkpoint, _ = read_checkpoint(trained.checkpoint)
    joined = np.concatenate(list(checkpoint.split.values()))
    assert sorted(joined.tolist()) == list(range(60))


def test_the_real_export_kept_its_evidence(trained: Trained) -> None:
    manifest = trained.exported.bundle.manifest
    assert [row.name for row in manifest.variants] == ["fp32", "fp16", "int8"]
    assert {row.opset for row in manifest.variants} == {18}
    assert sum(row.verdict == "chosen" for row in manifest.variants) == 1
    int8 = manifest.variant("int8")
    assert int8
    assert int8.evidence["fusion"]["share"] >= 0.8
    assert int8.size_bytes <= 0.3 * manifest.variants[0].size_bytes
    assert [row["name"] for row in int8.evidence["other_candidates"]]
    for row in manifest.variants:
        assert {"parity", "invariance", "latency", "reported"} <= set(row.evidence)
        assert row.batch_safe
    assert manifest.provenance["data"]["proven_on"]
    assert manifest.provenance["training"]["settings"]["epochs"] == 2
    reference = trained.exported.bundle.read_json("reference.json")
    assert sum(reference["variants"]["int8"]["confidence"]) == reference["num_samples"] == 6
    assert edgeml.verify(trained.bundle).ok


def test_an_exported_model_takes_any_batch_in_one_small_file(trained: Trained) -> None:
    for row in trained.exported.bundle.manifest.variants:
        model = onnx.load(trained.bundle / row.file, load_external_data=False)
        assert model.ir_version <= 10
        assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
        axis = model.graph.input[0].type.tensor_type.shape.dim[0]
        assert axis.dim_param == "batch"


@pytest.fixture
def changed(trained: Trained, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint whose data lost a picture, and the data."""
    data = tmp_path / "data"
    shutil.copytree(trained.pictures, data)
    checkpoint = Path(shutil.copytree(trained.checkpoint, tmp_path / "checkpoint"))
    text = (checkpoint / "checkpoint.json").read_text()
    (checkpoint / "checkpoint.json").write_text(text.replace(str(trained.pictures), str(data)))
    (data / "red/00.png").unlink()
    return checkpoint, data


def test_data_that_has_changed_is_refused(changed: tuple[Path, Path], tmp_path: Path) -> None:
    for call in (
        lambda: edgeml.export(changed[0], out=tmp_path / "b", settings=SETTINGS),
        lambda: edgeml.load_split(changed[0]),
    ):
        with pytest.raises(DataError, match="the data has changed since training"):
            call()


@pytest.mark.usefixtures("quick")
def test_data_that_is_given_is_split_anew(changed: tuple[Path, Path], tmp_path: Path) -> None:
    fresh = make_pictures(tmp_path / "fresh", per_class=6, seed=9)
    made = edgeml.export(changed[0], out=tmp_path / "b", data=fresh, settings=SETTINGS)
    provenance = made.bundle.manifest.provenance["data"]
    assert provenance["proven_on"] != provenance["fingerprint"]
    assert edgeml.verify(made.bundle.path).ok


def test_data_that_training_has_seen_is_refused_with_the_count(
    changed: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"\d+ of \d+ pictures to prove on were in the checkpoint's"
    ):
        edgeml.export(changed[0], out=tmp_path / "b", data=changed[1], settings=SETTINGS)
    assert not (tmp_path / "b").exists()


def _nan(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == "edgeml_scale":
            value = np.full((1, 3, 1, 1), np.nan, dtype=np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return model


def test_a_candidate_that_answers_nan_costs_only_itself(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(quick, monkeypatch, "fp16", how=_nan)
    _pretend(monkeypatch)
    made = _export(quick, tmp_path / "b")
    rows = {row["name"]: row for row in made.rows}
    assert (rows["fp16"]["verdict"], rows["fp16"]["size_bytes"]) == ("rejected", None)
    assert "NaN" in rows["fp16"]["reason"]
    assert made.bundle.manifest.variant("fp16") is None
    assert made.bundle.manifest.chosen_by_device == {"cpu": "int8", "gpu": "fp32"}
    assert made.bundle.manifest.provenance["broken"]["fp16"] == rows["fp16"]["reason"]


def test_a_conversion_that_fails_costs_only_itself(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: onnx.ModelProto) -> onnx.ModelProto:
        raise ExportError("no such operator")

    _spoil(quick, monkeypatch, "int8", how=fail)
    _pretend(monkeypatch)
    made = _export(quick, tmp_path / "b")
    rows = {row["name"]: row for row in made.rows}
    assert (rows["int8"]["verdict"], rows["int8"]["reason"]) == ("rejected", "no such operator")
    assert made.bundle.manifest.chosen == "fp32"
    assert [row.name for row in made.bundle.manifest.variants] == ["fp32", "fp16"]


def test_data_of_other_classes_is_refused(trained: Trained, tmp_path: Path) -> None:
    make_pictures(tmp_path / "data", per_class=3)
    (tmp_path / "data/red").rename(tmp_path / "data/pink")
    with pytest.raises(DataError, match="its classes are blue, green, pink; the checkpoint's are"):
        edgeml.export(trained.checkpoint, out=tmp_path / "b", data=tmp_path / "data")


def test_data_that_is_gone_is_told(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a data set"):
        edgeml.export(trained.checkpoint, out=tmp_path / "b", data=tmp_path / "none")


def test_somebody_elses_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(InputError, match="exists and is not a bundle"):
        edgeml.export(tmp_path / "no-such-checkpoint", out=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "irreplaceable"


def test_a_source_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'edgeml finetune' makes one"):
        edgeml.export(tmp_path, out=tmp_path / "b")


@pytest.mark.parametrize(
    "options", [{"num_threads": 0}, {"num_threads": -3}, {"seed": -1}], ids=str
)
def test_a_setting_outside_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ExportSettings(**options)


def test_progress_names_every_stage(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch)
    events: list[ProgressEvent] = []
    _export(quick, tmp_path / "b", progress=events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["prepare images", "trace", "space", "search", "time"]
    last = {event.stage: event for event in events}
    assert last.pop("space").note == "fp32, fp16, int8"
    assert all(event.done == event.total for event in last.values())
    assert last["search"].note.endswith("best so far int8 2.00x")


KILLED = """
import os, signal, sys
from pathlib import Path
import pytest
from edgeml.workflows import bundling
from tests.trained import GATE, TIMING, Trained
import edgeml
root, out = Path(sys.argv[1]), Path(sys.argv[2])
trained = Trained(
    pictures=root / "colours", checkpoint=root / "checkpoint", bundle=root / "colours.bundle",
    core=root / "core", exported=None,
)
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
bundling.write_golden = kill
with pytest.MonkeyPatch.context() as patch:
    trained.quicken(patch, out.parent / "searches")
    edgeml.export(
        trained.checkpoint, out=out, version="2", gate=GATE,
        settings=edgeml.ExportSettings(num_threads=1, timing=TIMING),
    )
"""


def test_a_kill_in_the_middle_leaves_the_old_bundle(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mine.bundle"
    shutil.copytree(quick.bundle, place)
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(quick.checkpoint.parent), str(place)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert Bundle.read(place).manifest.version == "1"
    assert edgeml.verify(place).ok
    (left,) = [path for path in tmp_path.iterdir() if path.name not in (place.name, "searches")]
    assert left.name.startswith(".mine.bundle.partial-")
    assert any(left.rglob("model.onnx"))  # it died in the middle indeed
    with pytest.raises(BundleError):
        edgeml.load(left)
    _pretend(monkeypatch)
    _export(quick, place, version="3")
    assert Bundle.read(place).manifest.version == "3"
    assert not left.exists()
