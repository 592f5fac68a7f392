"""Fine-tuning on folders as users have them: odd files, copies, groups, kills, full disks."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import edgeml
from edgeml.core.progress import ProgressEvent, silent
from edgeml.errors import DataError, InputError
from edgeml.exporting.answers import Reading, read_outputs
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.image import INPUT
from edgeml.training import backbones, efficientnet_lite
from edgeml.training.checkpoint import read_checkpoint
from edgeml.workflows.exporting import ExportSettings
from edgeml.workflows.source_opening import open_source
from tests.unit.training.test_image_models import FACTORY
from tests.unit.workflows.test_folder_prediction import limited
from tests.unit.workflows.test_hugging_face_image_source import _model

SIDE = 32
SETTINGS = edgeml.TrainingSettings(epochs=2, batch_size=8, num_threads=1, averaging=0.9)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """A row of the table that trains in a blink."""
    size = efficientnet_lite.LiteSize(width=0.25, depth=0.25, image_size=SIDE, dropout=0.1)
    monkeypatch.setitem(efficientnet_lite.SIZES, "tiny", size)  # type: ignore[arg-type]
    row = replace(backbones.BACKBONES["efficientnet-lite0"], name="tiny", size="tiny")
    monkeypatch.setitem(backbones.BACKBONES, "tiny", row)  # type: ignore[arg-type]
    return "tiny"


def make_folder(
    root: Path, counts: dict[str, int] | None = None, *, size: tuple[int, int] = (40, 30)
) -> Path:
    """Write noisy pictures whose class is their brightest channel."""
    rng = np.random.default_rng(0)
    for channel, (name, count) in enumerate((counts or {"bad": 12, "good": 12}).items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 160, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., channel % 3] += 90
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


def _finetune(folder: Path, out: Path, model: str = "tiny", **options: Any) -> Any:
    values: dict[str, Any] = {"weights": "random", "settings": SETTINGS, "image_size": SIDE}
    return edgeml.finetune(data=folder, out=out, model=model, **{**values, **options})


def _huge_png(width: int, height: int) -> bytes:
    """A file of some bytes whose header promises many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def _odd_files(folder: Path) -> None:
    """Add what folders hold: four files that are fine, and four that are not."""
    rng, good = np.random.default_rng(1), folder / "good"
    noise = rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).convert("CMYK").save(good / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65535, (30, 30), dtype=np.uint16)).save(good / "deep.png")
    Image.fromarray(noise[::-1]).save(good / "really.png", format="JPEG")
    Image.fromarray(noise[..., 0]).save(good / "grey.png")
    (good / "zero.png").write_bytes(b"")
    (good / "huge.png").write_bytes(_huge_png(20_000, 15_000))
    frames = [Image.fromarray(noise), Image.fromarray(255 - noise)]
    frames[0].save(good / "moving.gif", save_all=True, append_images=frames[1:])
    (good / "text.jpg").write_text("no picture at all")


def test_odd_pictures_are_used_and_unusable_ones_named(
    folder: Path, tmp_path: Path, tiny: str
) -> None:
    _odd_files(folder)
    with pytest.raises(DataError, match=r"4 of 32 pictures cannot be used: good/huge\.png"):
        _finetune(folder, tmp_path / "c")
    options = edgeml.ImageOptions(skip_unreadable=True)
    _finetune(folder, tmp_path / "c", options=options)
    read, _ = read_checkpoint(tmp_path / "c")
    assert read.data["findings"]["unreadable"] == 4
    assert sum(read.data["split"].values()) == 28


def test_a_hubs_processor_is_compared_on_readable_pictures(folder: Path, tmp_path: Path) -> None:
    theirs = str(_model(tmp_path / "theirs", "resnet"))
    (folder / "bad" / "0.png").write_bytes(b"")  # the first of all
    asked = {"weights": "pretrained", "image_size": None}
    with pytest.raises(DataError, match=r"1 of 24 .* leave them out with --skip-unreadable"):
        _finetune(folder, tmp_path / "c", theirs, **asked)
    options = edgeml.ImageOptions(skip_unreadable=True)
    _finetune(folder, tmp_path / "c", theirs, options=options, **asked)
    read, _ = read_checkpoint(tmp_path / "c")
    assert read.data["findings"]["unreadable"] == 1
    assert read.provenance["backbone"]["processor_difference_levels"] <= 1.01


def test_what_was_found_is_told_before_training(folder: Path, tmp_path: Path, tiny: str) -> None:
    (folder / "bad/copy.png").write_bytes((folder / "bad/1.png").read_bytes())
    (folder / "bad/notes.md").write_text("x")
    events: list[ProgressEvent] = []
    _finetune(folder, tmp_path / "c", progress=events.append)
    stages = [event.stage for event in events]
    note = events[stages.index("look at the data")].note
    assert stages.index("look at the data") < stages.index("train")
    for words in ("25 pictures, 2 classes of 12 to 13", "1 exact copies", "1 files that are no"):
        assert words in note
    read, _ = read_checkpoint(tmp_path / "c")
    copies = [i for i, p in enumerate(sorted((folder / "bad").glob("*.png"))) if p.stem in "1copy"]
    assert any(set(copies) <= set(part.tolist()) for part in read.split.values())


def test_a_leaking_split_of_the_users_is_refused(folder: Path, tmp_path: Path, tiny: str) -> None:
    (folder / "bad/copy.png").write_bytes((folder / "bad/0.png").read_bytes())
    rows = ["file,label,split", "bad/copy.png,bad,test", "good/0.png,good,test"]
    rows += [f"bad/{number}.png,bad,train" for number in range(12)]
    rows += [f"good/{number}.png,good,train" for number in range(1, 12)]
    rows += ["bad/v.png,bad,validation", "good/v.png,good,validation"]
    for label in ("bad", "good"):
        pixels = np.random.default_rng(len(label)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / label / "v.png")
    (folder / "list.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"1 are copies .*--allow-leaks"):
        _finetune(folder / "list.csv", tmp_path / "c")
    _finetune(folder / "list.csv", tmp_path / "c", options=edgeml.ImageOptions(allow_leaks=True))
    read, _ = read_checkpoint(tmp_path / "c")
    assert read.data["findings"]["shared_between_parts"]["exact"] == 1
    assert read.data["split"] == {"train": 23, "validation": 2, "test": 2}


def test_rare_classes_are_weighed_and_the_report_says_so(tmp_path: Path, tiny: str) -> None:
    data = make_folder(tmp_path / "data", {"ok": 40, "rare": 6})
    made = edgeml.finetune(
        data=data, out=tmp_path / "c", model=tiny, image_size=SIDE, weights="random",
        overrides={"epochs": 2, "num_threads": 1, "frozen_epochs": 0},
        options=edgeml.ImageOptions(validation_share=0.2, profile=True),
    )  # fmt: skip
    report = edgeml.training_report(made)
    read, _ = read_checkpoint(tmp_path / "c")
    assert read.training["settings_for"] == "small"
    assert read.data["findings"]["imbalance"] == pytest.approx(40 / 6)
    assert report["fit"]["verdict"] in ("overfits", "underfits", "fits", "too few to say")
    assert sum(map(sum, report["confusion"])) == read.data["split"]["validation"]
    assert report["profile"]["operators"][0]["share"] > 0
    page = (tmp_path / "c" / "report.html").read_text()
    for words in (
        f"<td>{report['fit']['verdict']}: ",
        "2, of 6 to 40 pictures",
        "Loss by epoch",
        "Confusion on validation",
        "verdict_reason",
        "Where a step",
    ):
        assert words in page
    for foreign in ("http://", "https://", "src='/"):
        assert foreign not in page


def test_a_kill_and_a_resume_give_the_same_checkpoint(
    folder: Path, tmp_path: Path, tiny: str
) -> None:
    class KilledError(Exception):
        """Stands for the end of the process."""

    def kill(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done == 4:
            raise KilledError

    _finetune(folder, tmp_path / "whole")
    with pytest.raises(KilledError):
        _finetune(folder, tmp_path / "c", progress=kill)
    assert (tmp_path / "c.partial").is_dir()
    _finetune(folder, tmp_path / "c", resume=True)
    assert not (tmp_path / "c.partial").exists()
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "c")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_full_disk_ends_a_training_in_one_line(folder: Path, tmp_path: Path) -> None:
    done = limited(
        200_000, "finetune", "--data", str(folder), "--out", str(tmp_path / "c"), "--epochs", "1",
        "--image-size", "32", "--threads", "1", "--model", "efficientnet-lite0",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "c").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_picture_model.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return "my_picture_model:make"


@pytest.mark.parametrize("kind", ["resnet", "vit", "factory"])
def test_each_kind_of_model_goes_from_checkpoint_to_graph(
    kind: str, folder: Path, tmp_path: Path, factory: str
) -> None:
    model = factory if kind == "factory" else str(_model(tmp_path / "theirs", kind))
    _finetune(folder, tmp_path / "c", model, weights="pretrained", image_size=None)
    read, _ = read_checkpoint(tmp_path / "c")
    source = open_source(str(tmp_path / "c"), None, ExportSettings(num_threads=1), silent)
    assert source.labels == ("bad", "good")
    side = {"factory": 20}.get(kind, SIDE)
    assert read.preprocessing["height"] == side
    if kind != "factory":
        assert read.provenance["backbone"]["processor_difference_levels"] <= 1.01
        assert str(tmp_path) not in json.dumps(dict(read.provenance))
    samples = source.prepare(source.split.test)
    graph = tmp_path / "model.onnx"
    onnx.save(source.assembly.assemble(source.make_core()), graph)
    engine = OnnxEngine(graph)
    answers = read_outputs(engine.run(samples.feed(range(len(samples)))), Reading())
    engine.close()
    wanted = source.reference(samples, 1).probabilities
    np.testing.assert_allclose(answers.probabilities, wanted, atol=2e-4)
    with edgeml.load_checkpoint(tmp_path / "c", num_threads=1) as predictor:
        images, _ = edgeml.load_split(tmp_path / "c", part="test")
        torch_answers = predictor.run({INPUT: images[INPUT]})["probabilities"]
    assert sorted(torch_answers.max(axis=1)) == pytest.approx(sorted(wanted.max(axis=1)), abs=1e-4)


def test_the_temperature_is_in_the_graph_and_in_torch(
    folder: Path, tmp_path: Path, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeml.training.figures.fit_temperature", lambda *_: 2.5)
    _finetune(folder, tmp_path / "c", factory, weights="pretrained", image_size=None)
    source = open_source(str(tmp_path / "c"), None, ExportSettings(num_threads=1), silent)
    model = source.assembly.assemble(source.make_core())
    names = {row.name: onnx.numpy_helper.to_array(row) for row in model.graph.initializer}
    assert names["edgeml_temperature"] == pytest.approx(0.4)
    _, network = read_checkpoint(tmp_path / "c")
    samples = source.prepare(source.split.test)
    images = samples.feed(range(len(samples)))[INPUT]
    pixels = torch.from_numpy(source.task.preprocessing.normalise(images))  # type: ignore[attr-defined]
    with torch.inference_mode():
        wanted = (network(pixels) / 2.5).softmax(dim=1).numpy()
    np.testing.assert_allclose(source.reference(samples, 1).probabilities, wanted, atol=1e-5)


def test_a_student_learns_from_a_teacher(
    folder: Path, tmp_path: Path, tiny: str, factory: str
) -> None:
    _finetune(folder, tmp_path / "teacher", image_size=48)
    options = edgeml.ImageOptions(teacher=tmp_path / "teacher")
    for name, share in (("all", 1.0), ("none", 0.0)):
        settings = replace(SETTINGS, distillation=share)
        _finetune(folder, tmp_path / name, settings=settings, options=options)
    _finetune(folder, tmp_path / "alone")
    states = {name: (tmp_path / name / "model.safetensors").read_bytes()
              for name in ("all", "none", "alone")}  # fmt: skip
    assert states["none"] == states["alone"]
    assert states["all"] != states["alone"]
    read, _ = read_checkpoint(tmp_path / "all")
    assert read.provenance["teacher"]["model"] == "tiny"
    with pytest.raises(InputError, match="of the pictures that the student is judged by"):
        _finetune(folder, tmp_path / "x", settings=replace(SETTINGS, seed=1), options=options)
    other = make_folder(tmp_path / "other", {"cat": 9, "dog": 9})
    with pytest.raises(InputError, match="with the classes bad, good"):
        _finetune(other, tmp_path / "x", options=options)


def test_a_model_for_other_pictures_is_refused(folder: Path, tmp_path: Path) -> None:
    theirs = _model(tmp_path / "theirs", "vit")
    with pytest.raises(InputError, match=r"does not take a picture of 64x64.*--image-size"):
        _finetune(folder, tmp_path / "c", str(theirs), weights="pretrained", image_size=64)


def test_an_unknown_processor_is_refused(folder: Path, tmp_path: Path) -> None:
    theirs = _model(tmp_path / "theirs", "resnet")
    config = theirs / "preprocessor_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "do_pad": True}))
    with pytest.raises(InputError, match="do_pad"):
        _finetune(folder, tmp_path / "c", str(theirs), weights="pretrained", image_size=None)


def test_a_full_disk_ends_an_export_in_one_line(
    folder: Path, tmp_path: Path, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _finetune(folder, tmp_path / "c", factory, weights="pretrained", image_size=None)
    monkeypatch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path / "searches"))
    before = sorted(path.name for path in tmp_path.iterdir())
    done = limited(
        1000, "export", str(tmp_path / "c"), "--out", str(tmp_path / "b"), "--threads", "1"
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b").exists()
    left = {path.name for path in tmp_path.iterdir()} - {*before, "searches", "__pycache__"}
    assert not left
