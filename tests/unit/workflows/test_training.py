"""``edgeml.finetune`` and what reads its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgeml
from edgeml.errors import DataError, InputError, MissingExtraError
from edgeml.training import backbones, efficientnet_lite
from edgeml.training.checkpoint import read_checkpoint
from tests.pictures import rgb_file
from tests.trained import SIDE, Trained

SETTINGS = edgeml.TrainingSettings(epochs=1, batch_size=24, num_threads=1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """A row of the table that trains in a blink."""
    size = efficientnet_lite.LiteSize(width=0.25, depth=0.25, image_size=SIDE, dropout=0.1)
    monkeypatch.setitem(efficientnet_lite.SIZES, "tiny", size)  # type: ignore[arg-type]
    row = replace(backbones.BACKBONES["efficientnet-lite0"], name="tiny", size="tiny")
    monkeypatch.setitem(backbones.BACKBONES, "tiny", row)  # type: ignore[arg-type]
    return "tiny"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _noise(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _finetune(trained: Trained, out: Path, model: str, **options: Any) -> Any:
    values: dict[str, Any] = {"settings": SETTINGS, "weights": "random", **options}
    return edgeml.finetune(data=trained.pictures, out=out, model=model, image_size=SIDE, **values)


def test_the_same_seed_trains_the_same_weights(trained: Trained, tiny: str, tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _finetune(trained, tmp_path / name, tiny, settings=replace(SETTINGS, seed=seed))
        states.append((tmp_path / name / "model.safetensors").read_bytes())
    assert states[0] == states[1]
    assert states[0] != states[2]


def test_pretrained_pictures_are_learnt(trained: Trained) -> None:
    # The session's own model: two passes over 48 easy pictures.
    read, _ = read_checkpoint(trained.checkpoint)
    assert read.training["accuracy"] >= 0.5
    assert read.provenance["weights"] == "pretrained"
    assert len(read.provenance["weights_sha256"]) == 64
    assert read.labels == ("blue", "green", "red")
    assert read.training["settings"]["num_threads"] == 2
    with edgeml.load_checkpoint(trained.checkpoint, num_threads=1) as predictor:
        tensors, targets = edgeml.load_split(trained.checkpoint, part="train")
        answers = predictor.run(tensors)["probabilities"].argmax(axis=1)
    assert np.mean(answers == targets) >= 0.6


def test_a_result_is_what_the_command_line_prints(
    trained: Trained, tiny: str, tmp_path: Path
) -> None:
    made = _finetune(trained, tmp_path / "c", tiny)
    value = made.to_json()
    assert list(value) == ["checkpoint", "accuracy", "epochs", "seconds"]
    assert value["checkpoint"] == str(tmp_path / "c")
    assert value["epochs"] == 1
    read, _ = read_checkpoint(tmp_path / "c")
    assert value["accuracy"] == read.training["accuracy"]
    assert (read.provenance["weights"], read.provenance["weights_sha256"]) == ("random", None)
    assert sum(read.data["split"].values()) == 60


def test_the_place_is_checked_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(InputError, match="exists and is not a checkpoint"):
        edgeml.finetune(data=tmp_path / "no-such-data", out=tmp_path)


def test_missing_starter_weights_never_become_random_ones(
    trained: Trained, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(backbones.BACKBONES[tiny], package="edgeml_no_such_weights")
    monkeypatch.setitem(backbones.BACKBONES, tiny, row)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError):
        _finetune(trained, tmp_path / "c", tiny, weights="pretrained")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"task": "poetry"},
            "image-classification, text-classification, recommendation was expected",
        ),
        ({"image_size": 15}, "16 to 1024"),
        ({"image_size": 1025}, "16 to 1024"),
        ({"weights": "imagenet"}, "'pretrained' or 'random'"),
        ({"model": "resnet-9"}, "no model 'resnet-9'"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        edgeml.finetune(data=tmp_path, out=tmp_path / "c", **options)


def test_unreadable_pictures_are_counted_and_named(tiny: str, tmp_path: Path) -> None:
    for number in range(3):
        for name, data in (("cat", rgb_file()), ("dog", b"")):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name / f"{name}{number}.png").write_bytes(data)
    with pytest.raises(DataError, match=r"3 of 6 pictures cannot be used: dog/dog0\.png"):
        edgeml.finetune(
            data=tmp_path / "data", out=tmp_path / "c", model=tiny, image_size=SIDE,
            weights="random", settings=SETTINGS,
        )  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_three_pictures_a_class_are_enough(tiny: str, tmp_path: Path) -> None:
    for number in range(6):
        place = tmp_path / "data" / ("cat" if number % 2 else "dog") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_noise(number)).save(place)
    made = edgeml.finetune(
        data=tmp_path / "data", out=tmp_path / "c", model=tiny, image_size=16, weights="random",
        settings=SETTINGS,
    )  # fmt: skip
    assert 0 <= made.accuracy <= 1


def test_a_part_of_the_data_is_drawn_with_its_classes(trained: Trained) -> None:
    whole, targets = edgeml.load_split(trained.checkpoint, part="train")
    assert whole["image"].shape == (48, SIDE, SIDE, 3)
    some, right = edgeml.load_split(trained.checkpoint, part="train", limit=10, seed=3)
    again, _ = edgeml.load_split(trained.checkpoint, part="train", limit=10, seed=3)
    np.testing.assert_array_equal(some["image"], again["image"])
    known = {image.tobytes(): target for image, target in zip(whole["image"], targets, strict=True)}
    assert [known[image.tobytes()] for image in some["image"]] == right.tolist()
    with pytest.raises(InputError, match="no part 'holdout'; train, validation, test"):
        edgeml.load_split(trained.checkpoint, part="holdout")


def test_a_curve_is_steps_and_losses(trained: Trained) -> None:
    curve = edgeml.training_curve(trained.checkpoint)
    assert curve[-1][0] == 12
    assert all(loss > 0 for _, loss in curve)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_is_at_least_one(trained: Trained, threads: int) -> None:
    with pytest.raises(InputError, match="num_threads"):
        edgeml.load_checkpoint(trained.checkpoint, num_threads=threads)
