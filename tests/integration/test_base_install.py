"""An environment with only the base wheel and Pillow predicts what this one predicts."""

from __future__ import annotations

import json

import pytest

import edgeml
from tests.base_environment import make_base_environment
from tests.trained import Trained

_ABSENT = ["torch", "transformers", "onnx", "tritonclient", "sympy", "onnxscript"]


@pytest.mark.slow
def test_base_wheel_and_pillow_make_the_same_prediction(trained: Trained, tmp_path) -> None:
    environment = make_base_environment(tmp_path)
    picture = next(trained.bundle.glob("golden/inputs/*"))
    with edgeml.load(trained.bundle, num_threads=1) as predictor:
        here = predictor.predict(picture)

    arguments = ("predict", str(trained.bundle), str(picture), "--threads", "1", "--json")
    there = json.loads(environment.run("-m", "edgeml", *arguments))["predictions"][0]

    assert there["label"] == here.label
    assert there["scores"] == dict(here.scores)
    code = f"import importlib.util as u; print([m for m in {_ABSENT} if u.find_spec(m)])"
    assert environment.run("-c", code).strip() == "[]"
