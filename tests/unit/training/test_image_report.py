"""The verdict on a training, its calibration and its hardest errors, on answers known by hand."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgeml.errors import InputError
from edgeml.training.automatic import (
    SIZES,
    augmentation_of,
    automatic_settings,
    has_dropout_of_its_head,
    rate_for,
)
from edgeml.training.image_history import History, LabelledImages
from edgeml.training.image_optimizing import ImageLoss, head_of
from edgeml.training.image_report import fit_verdict, image_report
from edgeml.training.settings import TrainingSettings

LABELS = ("a", "b", "c")


def _history(losses: tuple[float, ...] = (1.0, 0.5), best: int = 2) -> History:
    rows = [{"validation_loss": loss, "validation_accuracy": 0.5} for loss in losses]
    return History(epochs=rows, best_epoch=best)


@pytest.mark.parametrize(
    ("train", "validation", "samples", "verdict"),
    [
        (0.99, 0.80, 1000, "overfits"),
        (0.99, 0.80, 10, "too few to say"),
        (0.95, 0.94, 1000, "fits"),
        (0.60, 0.60, 1000, "underfits"),
        (0.99, 0.95, 1000, "fits"),
        (1.0, 1.0, 8, "too few to say"),
        (1.0, 1.0, 100, "fits"),
    ],
)
def test_a_gap_is_judged_by_what_chance_allows(
    train: float, validation: float, samples: int, verdict: str
) -> None:
    found = fit_verdict(train, validation, samples, _history())
    assert found["verdict"] == verdict
    assert f"of {samples}" in found["reason"]


def test_a_loss_that_rose_is_named() -> None:
    history = _history((1.0, 0.5, 0.9), best=2)
    assert "its loss rose" in fit_verdict(0.99, 0.7, 1000, history)["reason"]


def test_a_report_names_the_surest_errors_with_their_pictures() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(90) % 3
    logits = np.eye(3)[targets] * 4.0 + rng.normal(0, 0.1, (90, 3))
    logits[7] = (0, 0, 9)  # it is of class 1
    images = rng.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    data = LabelledImages(images=images, targets=targets)
    report = image_report(
        logits, data, training=(logits, targets), labels=LABELS,
        names=[f"p{index}" for index in range(90)], history=_history(),
    )  # fmt: skip
    json.dumps(report, allow_nan=False)
    assert report["accuracy"] == pytest.approx(89 / 90)
    assert report["confusion"][1] == [0, 29, 1]
    assert report["confused"] == [{"right": "b", "given": "c", "count": 1}]
    (hardest,) = report["hardest"]
    assert (hardest["item"], hardest["right"], hardest["given"]) == ("p7", "b", "c")
    shown = base64.b64decode(hardest["picture"].partition(",")[2])
    assert Image.open(io.BytesIO(shown)).size == (8, 8)
    assert report["temperature"] != 1.0
    assert report["classes"][1]["recall"] == pytest.approx(29 / 30)


def test_ten_thousand_classes_make_no_matrix() -> None:
    count = 10_000
    targets = np.arange(200)
    logits = np.zeros((200, count), dtype=np.float32)
    logits[np.arange(200), targets] = 1
    logits[7] = np.eye(1, count, 8)
    images = np.zeros((200, 2, 2, 3), dtype=np.uint8)
    report = image_report(
        logits, LabelledImages(images=images, targets=targets), training=(logits, targets),
        labels=[str(index) for index in range(count)], names=[""] * 200, history=_history(),
    )  # fmt: skip
    assert "confusion" not in report
    assert report["num_classes"] == count
    # The worst come first; a class without a picture to judge by is none of them.
    assert [row["label"] for row in report["classes"][:3]] == ["7", "8", "0"]
    assert len(report["classes"]) == 100
    assert all(row["support"] for row in report["classes"])
    assert len(json.dumps(report)) < 100_000


def test_the_unsurest_answers_are_shown_where_none_is_wrong() -> None:
    targets = np.arange(30) % 3
    logits = np.eye(3)[targets] * (4.0 + np.arange(30)[:, None] / 30)
    logits[7] = (0.1, 0.2, 0.1)
    images = np.zeros((30, 4, 4, 3), dtype=np.uint8)
    report = image_report(
        logits, LabelledImages(images=images, targets=targets), training=(logits, targets),
        labels=LABELS, names=[f"p{index}" for index in range(30)], history=_history(),
    )  # fmt: skip
    assert [row["item"] for row in report["hardest"][:3]] == ["p7", "p0", "p1"]
    assert len(report["hardest"]) == 12
    assert all(row["right"] == row["given"] for row in report["hardest"])
    assert report["confused"] == []


@pytest.mark.parametrize(("samples", "name"), [(60, "small"), (5_000, "medium"), (55_000, "large")])
def test_settings_follow_the_size_of_the_data(samples: int, name: str) -> None:
    settings, size = automatic_settings(samples)
    assert size == name
    assert 3 <= settings.epochs <= 30
    assert (settings.augmentation.mixup > 0) is (name == "small")
    changed, _ = automatic_settings(samples, {"epochs": 7, "dropout": 0.0})
    assert (changed.epochs, changed.dropout) == (7, 0.0)
    random, _ = automatic_settings(samples, pretrained=False)
    assert (random.frozen_epochs, random.backbone_rate) == (0, 1.0)
    once, _ = automatic_settings(samples, {"epochs": 1})
    assert 8 <= settings.batch_size <= 64
    assert once.frozen_epochs == 0  # or the head alone would ever have learnt
    assert [row.name for row in SIZES] == ["small", "medium", "large"]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(InputError, match="no setting 'epoch'"):
        automatic_settings(60, {"epoch": 3})


def test_dropout_is_set_where_it_is_the_heads_alone() -> None:
    one = nn.Sequential(nn.Dropout(0.1), nn.Linear(3, 3))
    assert has_dropout_of_its_head(one)
    assert not has_dropout_of_its_head(nn.Sequential(one, nn.Dropout(0.0)))
    assert not has_dropout_of_its_head(nn.Linear(3, 3))


def test_the_rate_follows_the_network() -> None:
    norms, layers = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.LayerNorm(3))
    assert rate_for(norms, where="package", pretrained=True) == TrainingSettings().peak_rate
    assert rate_for(layers, where="hub", pretrained=True) < rate_for(
        norms, where="hub", pretrained=True
    )


def test_rare_classes_weigh_more_where_asked_or_uneven() -> None:
    targets = np.array([0] * 40 + [1] * 10)
    weights = {
        name: ImageLoss(targets, TrainingSettings(class_weights=name)).weights  # type: ignore[arg-type]
        for name in ("none", "auto", "balanced")
    }
    ratio = {name: float(row[1] / row[0]) for name, row in weights.items()}
    assert ratio == pytest.approx({"none": 1.0, "auto": 2.0, "balanced": 4.0})
    even = ImageLoss(np.array([0, 0, 1]), TrainingSettings(class_weights="auto"))
    assert not even.balanced
    sampled = ImageLoss(targets, TrainingSettings(class_weights="sampling"))
    drawn = targets[sampled.order(targets, torch.Generator().manual_seed(0))]
    assert 0.3 < drawn.mean() < 0.7


def test_a_head_is_the_last_layer_with_an_output_a_class() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    assert head_of(network, 3) == {"2.weight", "2.bias"}
    assert head_of(network, 9) == frozenset()


@pytest.mark.parametrize("samples", [500, 5_000, 55_000])
def test_a_picture_that_may_not_be_mirrored_keeps_the_rest_of_its_recipe(samples: int) -> None:
    chosen, _ = automatic_settings(samples)
    still, _ = automatic_settings(samples, {"flip": False})
    assert chosen.augmentation.flip
    assert still == replace(chosen, augmentation=replace(chosen.augmentation, flip=False))
    named, _ = automatic_settings(samples, {"augmentation": augmentation_of("none"), "mixup": 0.5})
    assert named.augmentation == replace(augmentation_of("none"), mixup=0.5)
    with pytest.raises(InputError, match="mixup is -1"):
        automatic_settings(samples, {"mixup": -1.0})
