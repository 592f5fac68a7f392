"""The image recipes on tiny pictures: their presets' trainings, figures over seeds, their page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgeml
from edgeml.core.progress import silent
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.data.opening import open_image_data
from edgeml.training.checkpoint import read_checkpoint, write_checkpoint
from edgeml.workflows.training_report import _NO_ERROR
from export import clothing, defects, image_recipe
from export.image_recipe import ImageRecipe
from export.trainings import Training
from tests.pages import Page
from tests.trained import Trained
from tests.unit.training.test_image_models import FACTORY

SIDE = 20
COUNTS = {"patches": 80, "scratches": 120}
TEST = 12 + 18  # of each class 15 %
FAST = {"epochs": 1, "frozen_epochs": 0, "precision": "fp32", "num_threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a network of a few weights, which is a model by the name ``recipe_model:make``.

    Torch has one number of threads for the whole process: it is put back.
    """
    root, threads = tmp_path_factory.mktemp("recipes"), torch.get_num_threads()
    (root / "recipe_model.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield root
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def noise(place: Path) -> Path:
    """Pictures of two classes that nothing tells apart, so that each training errs otherwise."""
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        (place / "noise" / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "noise" / name / f"{number}.png")
    return place / "noise"


def _tiny(preset: ImageRecipe, data: Path) -> ImageRecipe:
    """Return a preset for other data and a network of a few weights, one epoch, else as it is."""
    return replace(
        preset,
        data=str(data),
        model="recipe_model:make",
        image_size=SIDE,
        overrides={**preset.overrides, **FAST},
    )


@pytest.fixture(scope="module")
def few10(place: Path, noise: Path) -> tuple[ImageRecipe, list[Training]]:
    recipe = _tiny(defects.PRESETS["few10"], noise)
    trainings = image_recipe._trainings(recipe, place / "few10", resume=False, progress=silent)
    return recipe, trainings


def _right(training: Training, part: str, noise: Path) -> float:
    """Return the share of right answers on one part, asked picture by picture."""
    read, _ = read_checkpoint(training.checkpoint)
    dataset = open_image_data(noise)
    with edgeml.load_checkpoint(training.checkpoint, num_threads=1) as predictor:
        right = [
            predictor.predict(dataset.items[index]).label == dataset.labels[dataset.targets[index]]
            for index in read.split[part].tolist()
        ]
    return float(np.mean(right))


def test_each_seed_has_a_training_a_draw_and_a_split_of_its_own(
    few10: tuple[ImageRecipe, list[Training]],
) -> None:
    _, trainings = few10
    names = [training.checkpoint.name for training in trainings]
    assert names == ["checkpoint", *(f"checkpoint-{seed}" for seed in (43, 44, 45, 46))]
    read = [read_checkpoint(training.checkpoint)[0] for training in trainings]
    assert [row.training["settings"]["seed"] for row in read] == [42, 43, 44, 45, 46]
    for part in ("train", "test"):
        assert len({tuple(row.split[part].tolist()) for row in read}) == len(read)
    # Ten pictures of each class, two of them to choose by; the test part is whole.
    for row in read:
        assert row.data["split"] == {"train": 16, "validation": 4, "test": TEST}


def test_fifty_pictures_of_each_class_reach_the_training(place: Path, noise: Path) -> None:
    recipe = replace(_tiny(defects.PRESETS["few50"], noise), seeds=())
    (only,) = image_recipe._trainings(recipe, place / "few50", resume=False, progress=silent)
    read, _ = read_checkpoint(only.checkpoint)
    assert read.data["split"] == {"train": 80, "validation": 20, "test": TEST}
    assert image_recipe._seeds(recipe, [only]) == {}


def test_the_accuracy_of_each_seed_is_that_of_its_own_test_part(
    few10: tuple[ImageRecipe, list[Training]], noise: Path
) -> None:
    recipe, trainings = few10
    found = image_recipe._seeds(recipe, trainings)["test_accuracy_by_seed"]
    wanted = [_right(training, "test", noise) for training in trainings]
    assert list(found.values()) == pytest.approx(wanted)


def _always(training: Training, answer: int, place: Path) -> Training:
    """Return a copy of a training whose network gives one answer, whatever it sees."""
    read, network = read_checkpoint(training.checkpoint)
    *_, bias = network.parameters()
    with torch.no_grad():
        bias.copy_(torch.where(torch.arange(len(bias)) == answer, 1e6, 0.0))
    write_checkpoint(place, read, network)
    return replace(training, checkpoint=place)


def test_seeds_are_averaged_with_the_first_ones_on_the_test_part(
    few10: tuple[ImageRecipe, list[Training]], tmp_path: Path
) -> None:
    # In the other parts the classes have equal counts: half of their pictures would be right.
    recipe, trainings = few10
    constant = [
        _always(training, answer, tmp_path / training.checkpoint.name)
        for training, answer in zip(trainings, (0, 0, 0, 1, 0), strict=True)
    ]
    found = image_recipe._seeds(recipe, constant)
    assert found["test_accuracy_by_seed"] == pytest.approx(
        {"first": 0.4, "seed 43": 0.4, "seed 44": 0.4, "seed 45": 0.6, "seed 46": 0.4}
    )
    assert found["test_accuracy_mean"] == pytest.approx(0.44)
    assert found["test_accuracy_deviation"] == pytest.approx(math.sqrt(0.008))


def test_resumed_trainings_that_are_finished_are_taken(
    few10: tuple[ImageRecipe, list[Training]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, trainings = few10
    monkeypatch.setattr(edgeml, "finetune", lambda **_: pytest.fail("it was trained again"))
    again = image_recipe._trainings(
        recipe, trainings[0].checkpoint.parent, resume=True, progress=silent
    )
    assert again == trainings


def test_the_preset_resnet_starts_a_resnet_from_nothing(place: Path, noise: Path) -> None:
    preset = clothing.PRESETS["resnet"]
    assert preset.settings
    fast = replace(preset.settings, epochs=1, batch_size=40, precision="fp32", num_threads=1)
    options = edgeml.ImageOptions(per_class=25)
    recipe = replace(preset, data=str(noise), image_size=32, settings=fast, options=options)
    (made,) = image_recipe._trainings(recipe, place / "resnet", resume=False, progress=silent)
    read, network = read_checkpoint(made.checkpoint)
    assert (read.model, read.provenance["weights"]) == ("resnet-18", "random")
    assert read.training["settings"]["averaging"] == 0.999
    assert read.training["settings"]["augmentation"]["erase"] == 0.25
    assert 11.1e6 < sum(value.numel() for value in network.parameters()) < 11.3e6
    right = _right(made, "test", noise)
    assert image_recipe._test_accuracy(made.checkpoint) == pytest.approx(right)


def test_a_recipe_measures_enough_calls_for_the_99th_percentile() -> None:
    (found,) = compare_latency(
        {"nothing": lambda: None}, baseline="nothing", plan=image_recipe._TIMING
    ).values()
    assert found.num_calls >= 1000
    assert found.p99_ms is not None


@pytest.fixture
def written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], str]:
    """Run a recipe whose training and export are done; an edge predictor stands for Triton."""
    done = Training(checkpoint=trained.checkpoint, accuracy=0.9, seconds=3.0)
    monkeypatch.setattr(image_recipe, "train", lambda *_, **__: done)
    monkeypatch.setattr(edgeml, "export", lambda *_, **__: trained.exported)
    server = nullcontext(SimpleNamespace(grpc="127.0.0.1:1"))
    monkeypatch.setattr(edgeml, "serve_triton", lambda *_, **__: server)
    monkeypatch.setattr(
        edgeml, "connect", lambda *_, bundle, **__: edgeml.load(bundle, num_threads=1)
    )
    monkeypatch.setattr(image_recipe, "_TIMING", TimingPlan(rounds=4, calls=5, warmup=1))
    recipe = ImageRecipe(name="colours", data="colours", model="efficientnet-lite0", image_size=32)
    image_recipe.run_image_recipe(
        recipe, preset="tiny", place=tmp_path, repository=tmp_path / "repository"
    )
    report = json.loads((tmp_path / "report.json").read_text())
    return report, (tmp_path / "report.html").read_text()


def test_a_recipes_page_shows_what_was_measured_and_examples(
    written: tuple[dict[str, Any], str],
) -> None:
    report, text = written
    page = Page(text)
    assert all(row["p99_ms"] is None and row["num_calls"] == 20 for row in report["rows"])
    assert "Latency of one picture: median and 90th percentile of 20 calls" in page.headings
    assert "99th" not in text
    assert "Accuracy, latency and size" in page.headings
    assert "Loss by epoch" in page.headings
    galleries = {"Errors that the model was surest of", _NO_ERROR}
    assert len(galleries & set(page.headings)) == 1
    assert page.images
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    assert len(page.captions) == len(page.images)
    assert page.outside == []


def test_a_recipes_page_says_what_was_found_in_the_data(
    written: tuple[dict[str, Any], str],
) -> None:
    report, text = written
    (data,) = [table for table in report["tables"] if table["title"] == "The data"]
    found = dict(data["rows"])
    assert found["samples"] == "60"
    assert found["classes"] == "3, of 20 to 20 pictures"
    assert found["unreadable"] == found["exact copies"] == "0"
    assert "findings" not in report["source"]
    assert "<td>samples</td><td>60</td>" in text
