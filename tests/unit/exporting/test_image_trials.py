"""The trials of an image classifier: made for the machine, with the contract's exact way in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from edgeml.core.signature import Tensors
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.building import Workshop
from edgeml.exporting.space import SpaceOptions, make_space
from edgeml.exporting.trials import Trial
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.workflows.trial_steps import _build
from tests.unit.exporting.cores import convolutions, operators, run

TASK = ImageTask(
    preprocessing=ImagePreprocessing(height=8, width=8),
    labels=ClassLabels(names=("a", "b", "c", "d", "e")),
)


@pytest.fixture
def pictures(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Made:
    """Trials by name, and what builds them."""

    trials: dict[str, Trial]
    workshop: Workshop

    def model(self, name: str) -> onnx.ModelProto:
        return self.workshop.build(self.trials[name])[0]


def make(
    folder: Path,
    pictures: np.ndarray[Any, Any],
    instruction_set: str,
    preprocessing: ImagePreprocessing = TASK.preprocessing,
) -> Made:
    """Return the trials of a small network for a machine."""
    core = convolutions()
    assembly = Assembly(
        frame="image", signature=TASK.signature, preprocessing=preprocessing.to_json()
    )

    def feeds() -> Iterator[Tensors]:
        return ({"image": pictures[index : index + 1]} for index in range(len(pictures)))

    workshop = Workshop(core, assembly, folder=folder, calibration=feeds, compared=feeds)
    options = SpaceOptions(instruction_set=instruction_set, num_samples=len(pictures))
    trials = {row.name: row for row in make_space(core, assembly, options)}
    return Made(trials=trials, workshop=workshop)


def test_candidates_are_made_for_the_machine(
    tmp_path: Path, pictures: np.ndarray[Any, Any]
) -> None:
    made = make(tmp_path, pictures, "avx2")
    rows = made.trials
    assert list(rows)[:3] == ["fp32", "fp16", "int8"]
    assert (rows["fp32"].tuned_for, rows["fp16"].tuned_for) == (None, None)
    recipe = rows["int8"].describe()
    assert rows["int8"].tuned_for == "avx2"
    assert recipe["types"]["reduce_range"] is True
    assert recipe["num_samples"] == 32
    for row in rows.values():
        _, proof = made.workshop.build(row)
        assert proof is None if row.precision != "int8" else proof and proof.ok
    # The normalisation is the first scale: the float picture is never made.
    assert "Sub" not in operators(made.model("int8"))
    assert "Sub" in operators(made.model("fp32"))


@dataclass(frozen=True, kw_only=True)
class ArithmeticCase:
    """A contract or a machine on which the integer way in is not exact."""

    id: str
    preprocessing: ImagePreprocessing
    instruction_set: str


@pytest.mark.parametrize(
    "case",
    [
        ArithmeticCase(
            id="a-mean-for-each-channel",
            preprocessing=replace(TASK.preprocessing, mean=(123.7, 116.3, 103.5)),
            instruction_set="avx_vnni",
        ),
        ArithmeticCase(
            id="signed-activations",
            preprocessing=TASK.preprocessing,
            instruction_set="dotprod",
        ),
    ],
    ids=lambda case: case.id,
)
def test_otherwise_the_graph_does_the_arithmetic(
    tmp_path: Path, case: ArithmeticCase, pictures: np.ndarray[Any, Any]
) -> None:
    made = make(tmp_path, pictures, case.instruction_set, case.preprocessing)
    fp32, int8 = made.model("fp32"), made.model("int8")
    assert {"Sub", "Mul", "QuantizeLinear"} <= set(operators(int8))
    assert made.trials["int8"].describe()["input_scale"] is None
    answers = [run(model, {"image": pictures}) for model in (fp32, int8)]
    assert np.abs(answers[0] - answers[1]).max() < 0.1


def test_a_quantizer_that_did_nothing_is_a_failure(
    tmp_path: Path, pictures: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edgeml.exporting.building.quantize_prepared", lambda prepared, *_: onnx.load(prepared)
    )
    contract = replace(TASK.preprocessing, mean=(1.0, 2.0, 3.0))
    made = make(tmp_path, pictures, "avx_vnni", contract)
    found: dict[str, Any] = {"failures": [], "evidence": {}}
    work: Any = SimpleNamespace(workshop=made.workshop)
    _build(work, made.trials["int8"], tmp_path / "model.onnx", found)
    assert found["failures"] == ["only 0 of 3 Conv/MatMul/Gemm run quantized"]
    assert found["evidence"]["fusion"]["quantized"] == 0
