"""Corruptions at stated strengths, and confidence on pictures of nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgeml
from edgeml.data.corruptions import CORRUPTIONS, corrupt, made_up_pictures
from edgeml.errors import DataError, InputError
from edgeml.workflows.robustness import area_under_curve
from tests.small import LABELS, SIDE, make_small_bundle
from tests.trained import Trained


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("robust") / "small.bundle"
    make_small_bundle(place)
    return place


@pytest.fixture
def data(tmp_path: Path, bundle: Path) -> Path:
    """Pictures that are called what the bundle calls them, so that clean accuracy is 1."""
    rng = np.random.default_rng(0)
    with edgeml.load(bundle, variant="fp32", num_threads=1) as predictor:
        for number in range(40):
            base = rng.integers(0, 256, 3)
            pixels = np.clip(base + rng.normal(0, 9, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            place = tmp_path / "data" / str(predictor.predict(pixels).label) / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    return tmp_path / "data"


def test_variants_are_measured_side_by_side(bundle: Path, data: Path, tmp_path: Path) -> None:
    found = edgeml.robustness(bundle, data=data, limit=30, num_threads=1)
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["variants"] == ["fp32", "int8"]
    assert value["rows"][0]["accuracy"]["fp32"] == 1.0
    tried = sum(len(kind.strengths) for kind in CORRUPTIONS)
    assert len(value["rows"]) == 1 + tried
    bright = [row["accuracy"]["fp32"] for row in value["rows"] if row["corruption"] == "bright"]
    assert min(bright) < 1.0  # what is clipped changes a mean of colours
    assert 0 <= value["unknown"]["variants"]["int8"]["auroc"] <= 1
    again = edgeml.robustness(bundle, data=data, limit=30, num_threads=1)
    assert again.to_json() == found.to_json()
    _, page = edgeml.write_report(tmp_path / "report", found.report())
    assert "Accuracy of corrupted pictures" in page.read_text()


def test_unknown_pictures_may_be_given(bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    for number, picture in enumerate(made_up_pictures(7, 20, 20, seed=1)):
        Image.fromarray(picture).save(tmp_path / "strange" / f"{number}.png")
    found = edgeml.robustness(bundle, data=data, unknown=tmp_path / "strange", num_threads=1)
    assert (found.unknown["samples"], found.unknown["source"]) == (7, "strange")
    with pytest.raises(InputError, match="no such folder"):
        edgeml.robustness(bundle, data=data, unknown=tmp_path / "none", num_threads=1)


def test_a_checkpoint_whose_pictures_have_changed_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    """Its test part is a list of numbers: of other data they would be any pictures."""
    found = edgeml.robustness(trained.bundle, data=trained.checkpoint, limit=9, num_threads=1)
    assert found.to_json()["rows"][0]["accuracy"]["fp32"] > 0.5
    checkpoint = Path(shutil.copytree(trained.checkpoint, tmp_path / "checkpoint"))
    pictures = Path(shutil.copytree(trained.pictures, tmp_path / "pictures"))
    value = json.loads((checkpoint / "checkpoint.json").read_bytes())
    assert value["data"]["place"] == {"folder": str(trained.pictures)}
    value["data"]["place"] = {"folder": str(pictures)}
    (checkpoint / "checkpoint.json").write_text(json.dumps(value))
    edgeml.robustness(trained.bundle, data=checkpoint, limit=9, num_threads=1)
    next(pictures.glob("*/*.png")).rename(pictures / "blue" / "renamed.png")
    with pytest.raises(DataError, match="the data has changed since training"):
        edgeml.robustness(trained.bundle, data=checkpoint, limit=9, num_threads=1)


def test_pictures_of_other_classes_are_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("cat", "horse"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match="its class 'horse' is none of the bundle's"):
        edgeml.robustness(bundle, data=tmp_path, num_threads=1)
    with pytest.raises(InputError, match="fp32 is the yardstick"):
        edgeml.robustness(bundle, data=tmp_path, variants=("int8",))
    assert "cat" in LABELS


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=lambda kind: kind.name)
def test_a_stronger_corruption_changes_more(kind: object) -> None:
    small = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC))
    images = np.stack([scene] * 4)
    gaps = [
        np.abs(corrupt(images, kind, strength, seed=0).astype(int) - images).mean()  # type: ignore[arg-type]
        for strength in kind.strengths  # type: ignore[attr-defined]
    ]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


def test_the_area_under_the_curve_is_the_chance_to_score_higher() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.random(50).round(1), rng.random(70).round(1) - 0.2
    pairs = (known[:, None] > unknown).mean() + (known[:, None] == unknown).mean() / 2
    assert area_under_curve(known, unknown) == pytest.approx(pairs)
    assert area_under_curve(np.array([0.9]), np.array([0.1])) == 1.0
