"""The public names, pinned; and what a device that only predicts never loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgeml
from tests.pictures import rgb_file

PUBLIC = [
    "Bundle",
    "CanarySettings",
    "CascadeCurve",
    "Comparison",
    "EdgemlError",
    "ExportSettings",
    "FallbackSettings",
    "Gate",
    "ImageOptions",
    "LimitSettings",
    "ModelSignature",
    "Prediction",
    "Predictor",
    "Profile",
    "ProfileSettings",
    "Recommendation",
    "Recommender",
    "RecommenderSettings",
    "Report",
    "ReportTable",
    "Robustness",
    "ServedBundle",
    "ServiceLevel",
    "ServingOptions",
    "TensorSpec",
    "TextTrainingSettings",
    "Texts",
    "TrainingSettings",
    "__version__",
    "canary",
    "cascade",
    "cascade_curve",
    "compare",
    "connect",
    "connect_async",
    "deadline",
    "export",
    "find_data",
    "finetune",
    "load",
    "load_checkpoint",
    "load_items",
    "load_recommender",
    "load_split",
    "load_texts",
    "priority",
    "profile",
    "promote",
    "publish",
    "queue_for_deadline",
    "robustness",
    "rollback",
    "serve",
    "serve_triton",
    "shadow",
    "training_curve",
    "training_report",
    "tune",
    "verify",
    "with_fallback",
    "with_limit",
    "write_report",
]
PREDICT = """
import json, sys
import edgeml
with edgeml.load(sys.argv[1], num_threads=1) as predictor:
    answers = predictor.predict_batch([sys.argv[2], b""], on_error="return")
    print(json.dumps([answers[0].served_by, type(answers[1]).__name__, sorted(sys.modules)]))
"""


def test_the_public_names_are_these() -> None:
    # A name that is added, renamed or removed changes what users may rely on: say so here.
    assert edgeml.__all__ == PUBLIC
    assert dir(edgeml) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented_and_resolves(name: str) -> None:
    value = getattr(edgeml, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__
        assert value.__module__.startswith("edgeml.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantize'"):
        _ = edgeml.quantize


def test_predicting_loads_nothing_of_training_exporting_or_serving(
    small: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scene.png"
    file.write_bytes(rgb_file())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREDICT, str(small), str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    served_by, error, modules = json.loads(done.stdout)
    assert (served_by, error) == ("onnxruntime/cpu/int8/3", "InputError")
    loaded = {name.partition(".")[0] for name in modules}
    assert {"numpy", "onnxruntime", "PIL"} <= loaded
    forbidden = {
        *("torch", "transformers", "onnx", "onnxscript", "sympy", "tritonclient", "grpc"),
        *("safetensors", "sklearn", "scipy", "pandas"),
    }
    assert not loaded & forbidden
    for part in ("training", "exporting", "serving", "data"):
        assert not any(name.startswith(f"edgeml.{part}") for name in modules)
