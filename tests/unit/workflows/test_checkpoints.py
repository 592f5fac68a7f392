"""What reads a text checkpoint beside an export: its texts and its training's report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import edgeml
from edgeml.data.opening import open_text_data
from edgeml.errors import DataError, InputError
from edgeml.training.checkpoint import read_checkpoint
from tests.small_text import make_encoder, make_table

SETTINGS = edgeml.TextTrainingSettings(
    epochs=1, batch_size=16, learning_rate=2e-3, max_length=16, precision="fp32", num_threads=1
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the tests of this file read."""

    table: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("checkpoints")
    table = make_table(folder / "films.csv", 40)
    encoder = make_encoder(folder / "tiny")
    checkpoint = folder / "c"
    edgeml.finetune(
        task="text-classification",
        data=table,
        model=str(encoder),
        settings=SETTINGS,
        out=checkpoint,
    )
    return Made(table=table, checkpoint=checkpoint)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_has_its_texts_and_their_classes(made: Made, part: str) -> None:
    texts = edgeml.load_items(made.checkpoint, part=part)
    whole = open_text_data(made.table)
    indices = read_checkpoint(made.checkpoint)[0].split[part]
    assert texts.items == tuple(whole.items[index] for index in indices)
    assert texts.targets.tolist() == whole.targets[indices].tolist()
    assert texts.labels == ("bad", "good")


def test_the_parts_are_all_of_it_and_share_nothing(made: Made) -> None:
    parts = [
        edgeml.load_items(made.checkpoint, part=part).items
        for part in ("train", "validation", "test")
    ]
    together = [item for part in parts for item in part]
    assert len(together) == len(set(together)) == 40
    assert edgeml.load_items(made.checkpoint).items == parts[2]


def test_a_part_that_is_not_there_is_refused(made: Made) -> None:
    with pytest.raises(InputError, match="no part 'dev'; train, validation, test were expected"):
        edgeml.load_items(made.checkpoint, part="dev")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_data_that_is_not_what_it_was_is_refused(damage: str, tmp_path: Path) -> None:
    table, checkpoint = make_table(tmp_path / "films.csv", 40), tmp_path / "c"
    edgeml.finetune(
        task="text-classification",
        data=table,
        model=str(make_encoder(tmp_path / "tiny")),
        settings=SETTINGS,
        out=checkpoint,
    )
    if damage == "changed":
        table.write_text(table.read_text(encoding="utf-8") + "one more,good\n", encoding="utf-8")
    else:
        table.unlink()
    reason = {"changed": "has changed since training", "gone": "has this name"}[damage]
    with pytest.raises(DataError, match=reason):
        edgeml.load_items(checkpoint)
    # What it noted of itself needs no data.
    assert edgeml.training_report(checkpoint)["samples"] > 0


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    for read in (edgeml.load_items, edgeml.training_report):
        with pytest.raises(InputError, match=tmp_path.name):
            read(tmp_path)


def test_a_damaged_checkpoint_is_refused(made: Made, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made.checkpoint, tmp_path / "copy"))
    (copy / "checkpoint.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="the checkpoint is damaged"):
        edgeml.training_report(copy)


def test_the_report_is_of_the_validation_part(made: Made) -> None:
    report = edgeml.training_report(made.checkpoint)
    validation = edgeml.load_items(made.checkpoint, part="validation")
    confusion = report["confusion"]
    assert report["samples"] == len(validation.items) == sum(map(sum, confusion))
    assert report["accuracy"] == sum(confusion[i][i] for i in range(2)) / report["samples"]
    assert {"macro_f1", "classes", "temperature", "hardest", "truncation"} <= set(report)
    assert {row["text"] for row in report["hardest"]} <= set(validation.items)
