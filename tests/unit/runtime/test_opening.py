"""Engines by name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from edgeml.core.predictor import Engine
from edgeml.errors import InputError
from edgeml.runtime import opening
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.opening import ENGINES, installed_engines, open_runtime
from edgeml.runtime.openvino_engine import OpenVinoEngine
from tests.small import INPUT, OUTPUT, TASK, small_classifier

MODEL = small_classifier().SerializeToString()


@pytest.mark.parametrize(
    ("name", "kind"), [("onnxruntime", OnnxEngine), ("openvino", OpenVinoEngine)]
)
def test_an_engine_is_opened_by_its_name(name: str, kind: type[Engine]) -> None:
    engine = open_runtime(
        MODEL,
        engine=name,
        settings=SessionSettings(),
        signature=TASK.signature,
        served_by=f"{name}/cpu/x/1",
    )
    assert type(engine) is kind
    assert engine.served_by == f"{name}/cpu/x/1"
    answers = engine.run({INPUT: np.zeros((1, 8, 8, 3), np.uint8)})
    np.testing.assert_allclose(answers[OUTPUT], 0.25, atol=1e-6)


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match="no engine 'tensorrt'; onnxruntime or openvino"):
        open_runtime(MODEL, engine="tensorrt", settings=SessionSettings(), served_by="x")


@pytest.mark.parametrize("name", ENGINES)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the option 'speed'"):
        open_runtime(
            MODEL, engine=name, settings=SessionSettings(), served_by="x", options={"speed": 1}
        )


def test_the_engines_installed_are_those_that_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_engines() == ENGINES == ("onnxruntime", "openvino")

    def without(name: str) -> Any:
        return None if name == "openvino" else find_spec(name)

    monkeypatch.setattr(opening, "find_spec", without)
    assert installed_engines() == ("onnxruntime",)
