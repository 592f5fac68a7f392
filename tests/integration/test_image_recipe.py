"""An image recipe to its end on the real server; what is trained and exported is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgeml
from edgeml.core.timing import TimingPlan
from edgeml.serving.installation.finding import Installation
from export import image_recipe
from export.trainings import Training
from tests.pages import Page
from tests.trained import Trained

pytestmark = pytest.mark.triton


def test_a_recipe_publishes_serves_and_puts_every_target_side_by_side(
    trained: Trained, triton: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Training(checkpoint=trained.checkpoint, accuracy=0.9, seconds=3.0)
    monkeypatch.setattr(image_recipe, "train", lambda *_, **__: done)
    monkeypatch.setattr(edgeml, "export", lambda *_, **__: trained.exported)
    monkeypatch.setattr(image_recipe, "_TIMING", TimingPlan(rounds=20, calls=5, warmup=1))
    name = trained.manifest.name
    recipe = image_recipe.ImageRecipe(
        name=name, data="colours", model="efficientnet-lite0", image_size=32
    )
    repository = tmp_path / "repository"
    image_recipe.run_image_recipe(recipe, preset="tiny", place=tmp_path, repository=repository)
    assert (repository / name / "config.pbtxt").is_file()
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    variants = [f"edge {row.name}" for row in trained.manifest.variants]
    targets = [f"{row['target']} {row['name']}" for row in rows]
    assert targets[:-1] == ["torch fp32", *variants]
    assert targets[-1].replace("triton-grpc", "edge") in variants
    assert rows[-1]["served_by"].startswith("triton/cpu/")
    assert all(row["accuracy"] is not None and row["num_calls"] == 100 for row in rows)
    page = Page((tmp_path / "report.html").read_text())
    assert "Latency of one picture: median and 90th percentile of 100 calls" in page.headings
    assert page.outside == []
