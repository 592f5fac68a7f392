"""Ten thousand classes: a head is trained, exported and answers, and nothing grows by a square."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import edgeml
from edgeml.core.paired import compare_agreement
from edgeml.data.dataset import ImageDataset
from edgeml.data.group_split import split_groups
from edgeml.data.opening import NAMED
from edgeml.training.checkpoint import read_checkpoint
from edgeml.workflows.exporting import ExportSettings
from tests.pages import Page
from tests.trained import TIMING, make_trials, work_here

CLASSES = 10_000
HELD = 100
LABELS = tuple(f"part-{number:05}" for number in range(CLASSES))
FACTORY = """
from torch import nn

def make(num_classes):
    body = [nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(256, num_classes)), {"image_size": 16}
"""


def load_many() -> ImageDataset:
    """A picture of each class to learn from, and some to judge by: arrays, no files."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (CLASSES, 16, 16, 3), dtype=np.uint8)
    held = rng.permutation(CLASSES)[: 2 * HELD]
    noisy = np.clip(train[held] + rng.normal(0, 4, (2 * HELD, 16, 16, 3)), 0, 255)
    return ImageDataset(
        name="many",
        labels=LABELS,
        items=np.concatenate([train, noisy.astype(np.uint8)]),
        targets=np.concatenate([np.arange(CLASSES), held]).astype(np.int64),
        fingerprint="many",
        fixed_validation=np.arange(CLASSES, CLASSES + HELD),
        fixed_test=np.arange(CLASSES + HELD, CLASSES + 2 * HELD),
        published=True,
    )


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The data under a name; a search that tries fp32 and INT8, in this process."""
    (tmp_path / "model_of_many.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NAMED, "many", load_many)
    monkeypatch.setattr("edgeml.workflows.proving.make_space", lambda *_: make_trials()[::2])
    monkeypatch.setattr("edgeml.workflows.searching._can_mix", lambda _: False)
    monkeypatch.setattr("edgeml.workflows.jobs.run_child", work_here)
    return "many"


def test_a_head_of_ten_thousand_classes_is_trained_and_exported(many: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    settings = edgeml.TrainingSettings(
        epochs=1, batch_size=1000, precision="fp32", num_threads=1, averaging=0.0
    )
    edgeml.finetune(data=many, out=tmp_path / "c", model="model_of_many:make", settings=settings)
    exported = edgeml.export(
        tmp_path / "c", out=tmp_path / "b", gate=edgeml.Gate(max_accuracy_drop=0.5),
        settings=ExportSettings(num_threads=1, timing=TIMING),
    )  # fmt: skip
    picture = load_many().items[CLASSES]
    with (
        edgeml.load(exported.bundle, variant="fp32", num_threads=1) as edge,
        edgeml.load_checkpoint(tmp_path / "c", num_threads=1) as torch_one,
    ):
        answer, wanted = edge.predict(picture), torch_one.predict(picture)
    torch.set_num_threads(threads)
    assert exported.bundle.manifest.labels == LABELS
    assert (answer.label, len(answer.scores)) == (wanted.label, CLASSES)
    _check_sizes(tmp_path)


def _check_sizes(place: Path) -> None:
    """Beside the labels themselves nothing that is written grows with the classes."""
    labels = len(json.dumps(LABELS, indent=2)) + 4 * CLASSES
    for name in ("c/checkpoint.json", "c/report.html", "b/manifest.json"):
        size = (place / name).stat().st_size - (0 if name.endswith("html") else labels)
        assert size < 80_000, name
    read, _ = read_checkpoint(place / "c")
    report, findings = read.training["report"], read.data["findings"]
    assert "confusion" not in report
    assert (report["num_classes"], len(report["classes"])) == (CLASSES, 100)
    assert (findings["num_classes"], len(findings["classes"])) == (CLASSES, 100)
    text = (place / "c/report.html").read_text()
    assert "The 100 worst of 10,000 classes, on validation pictures" in Page(text).headings
    assert "<td>classes</td><td>10,000, of 1 to 2 pictures</td>" in text


@contextmanager
def _memory(most_bytes: int) -> Iterator[None]:
    """Let Python's objects and arrays take no more than so much beside those that are there.

    What other libraries and threads have of the process's memory does not count.
    """
    gc.collect()
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= most_bytes


def test_a_split_of_groups_is_no_table_of_groups_by_classes() -> None:
    labels = LABELS[: CLASSES // 4]
    targets = np.tile(np.arange(len(labels)), 4)
    groups = np.arange(len(targets))
    groups[len(labels)] = 0  # one copy is enough for groups to count
    rng = np.random.default_rng(0)
    with _memory(len(targets) * len(labels) // 2):  # a byte a cell would be twice as much
        parts = split_groups(
            targets, groups, np.arange(len(targets)),
            shares={"train": 0.0, "validation": 0.15, "test": 0.15},
            labels=labels, name="many", rng=rng,
        )  # fmt: skip
    place = {name: set(part.tolist()) for name, part in parts.items()}
    assert any({0, len(labels)} <= part for part in place.values())
    assert sum(map(len, place.values())) == len(targets)
    for part in parts.values():
        assert len(np.unique(targets[part])) == len(labels)


def test_answers_of_many_classes_are_compared_in_little_memory() -> None:
    one = np.full((2000, CLASSES), 1 / CLASSES, dtype=np.float32)
    other = one.copy()
    other[0, 5] = 0.5
    with _memory(2 * (one.nbytes + other.nbytes)):  # as much as all rows have as float64
        found = compare_agreement(one, other)
    assert found.flips == 1 / 2000
