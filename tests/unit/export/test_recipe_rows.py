"""What the recipes take from an export: rows and figures that a report can hold."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import edgeml
from edgeml.core.timing import Latency
from export import image_recipe, text_recipe
from export.comparison_rows import comparison_row
from tests.trained import Trained

LATENCY = Latency(
    p50_ms=1.0,
    p90_ms=2.0,
    p99_ms=None,
    speedup=1.5,
    speedup_low=1.4,
    speedup_high=1.6,
    stable=True,
    num_calls=10,
)
TRAINED = SimpleNamespace(accuracy=0.9, seconds=3.0)


@pytest.mark.parametrize("recipe", [image_recipe, text_recipe], ids=["image", "text"])
def test_figures_of_int8_are_there_where_int8_is(recipe: Any, trained: Trained) -> None:
    figures = recipe._metrics(TRAINED, trained.exported, 7)
    json.dumps(figures, allow_nan=False)
    assert (figures["chosen"], figures["test_samples"]) == (trained.manifest.chosen, 6)
    assert figures["fusion_share"] >= 0.8
    assert figures["int8_size_ratio"] < 0.3
    # A model that cannot be quantized has no such variant.
    rows = tuple(row for row in trained.manifest.variants if row.name != "int8")
    manifest = replace(
        trained.manifest,
        variants=rows,
        chosen="fp32",
        chosen_for_batches="fp32",
        chosen_by_device={"cpu": "fp32"},
        chosen_by_engine={},
    )
    bundle = SimpleNamespace(manifest=manifest)
    figures = recipe._metrics(TRAINED, SimpleNamespace(bundle=bundle), 7)
    assert not [name for name in figures if name.startswith("int8")]


@pytest.mark.parametrize("target", ["torch fp32", "edge fp32", "triton-grpc int8"])
def test_a_row_names_engine_and_precision(target: str, trained: Trained) -> None:
    found = edgeml.Comparison(
        target=target, served_by="s", latency=LATENCY, accuracy=0.5, accuracy_drop=0.0
    )
    row = comparison_row(found, trained.manifest, samples=6)
    assert row["precision"] == target.split(" ")[1]
    assert row["engine"] == ("torch" if target.startswith("torch") else "onnxruntime")
    assert row["samples"] == 6
