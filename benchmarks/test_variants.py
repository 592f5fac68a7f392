"""torch, fp32 and INT8 side by side: one thread each, batch 1, in turns; paired ratios."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import edgeml
from benchmarks.conftest import Deploy, Deployed
from edgeml.core.timing import TimingPlan

_PLAN = TimingPlan(rounds=60, calls=5, budget_s=30.0)
# Each is a model that must be trained and exported first.
_MODELS = (
    ("efficientnet-lite0", 64),
    pytest.param("efficientnet-lite0", 96, marks=pytest.mark.full_tier),
    pytest.param("efficientnet-lite0", 224, marks=pytest.mark.full_tier),
    pytest.param("resnet-18", 224, marks=pytest.mark.full_tier),
)
_TARGETS = ("torch eager", "torch channels_last", "edge fp32", "edge fp16", "edge int8")


@pytest.fixture(scope="module")
def compared(deploy: Deploy) -> Callable[[int, str], dict[str, edgeml.Comparison]]:
    """Compare every target, once a module for each model."""
    found: dict[tuple[int, str], dict[str, edgeml.Comparison]] = {}

    def at(size: int, backbone: str) -> dict[str, edgeml.Comparison]:
        if (size, backbone) not in found:
            deployed = deploy(size, backbone)
            tensors, labels = edgeml.load_split(deployed.checkpoint, part="train", limit=16)
            predictors = _open(deployed)
            rows = edgeml.compare(
                predictors, tensors, baseline="edge fp32", labels=labels, plan=_PLAN
            )
            for predictor in predictors.values():
                predictor.close()
            found[size, backbone] = {row.target: row for row in rows}
        return found[size, backbone]

    return at


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize(("backbone", "size"), _MODELS)
def test_one_picture(
    benchmark,
    compared: Callable[[int, str], dict[str, edgeml.Comparison]],
    deploy: Deploy,
    backbone: str,
    size: int,
    target: str,
) -> None:
    """Time one picture through ``predict_tensors``."""
    rows, deployed = compared(size, backbone), deploy(size, backbone)
    predictors = _open(deployed)
    tensors, _ = edgeml.load_split(deployed.checkpoint, part="train", limit=1)
    reference = predictors["edge fp32"].run(tensors)["probabilities"]

    benchmark.group = f"{backbone}, {size} px, batch 1, one thread"
    benchmark.extra_info.update(rows[target].to_json())
    benchmark.extra_info["input"] = f"{backbone}, {size} px"
    answer = benchmark.pedantic(
        predictors[target].run, args=(tensors,), rounds=50, iterations=1, warmup_rounds=5
    )

    assert np.abs(answer["probabilities"] - reference).max() < 0.2
    for predictor in predictors.values():
        predictor.close()


def _open(deployed: Deployed) -> dict[str, edgeml.Predictor]:
    predictors: dict[str, edgeml.Predictor] = {
        "torch eager": edgeml.load_checkpoint(deployed.checkpoint, num_threads=1),
        "torch channels_last": edgeml.load_checkpoint(
            deployed.checkpoint, num_threads=1, channels_last=True
        ),
    }
    for name in ("fp32", "fp16", "int8"):
        predictors[f"edge {name}"] = edgeml.load(deployed.bundle, variant=name, num_threads=1)
    return predictors
