"""``edgeml.load`` for the task ``tensor``: batches of one, and batches where nothing is safe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.errors import InputError
from tests.bundles import spoil
from tests.tensors import COUPLED, ONE, TWO, make_tensor_bundle

ONES = [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    samples = [{"values": [1, 2], "weights": [3, 4]}, {"values": [5, 6], "weights": [7, 8]}]
    make_tensor_bundle(tmp_path / "b", TWO, samples)
    assert edgeml.verify(tmp_path / "b").ok
    with edgeml.load(tmp_path / "b", num_threads=1, verify="golden") as predictor:
        (answer, *_) = predictor.predict_batch([*samples, {"values": [1], "weights": [9]}])
        with pytest.raises(InputError, match="size 1 on axis 'steps'; the model expects size 2"):
            predictor.predict({"values": [1, 2], "weights": [3]})
    assert answer.outputs is not None
    assert answer.outputs["products"].tolist() == [3, 8]
    assert float(answer.outputs["totals"]) == 11
    assert answer.served_by == "onnxruntime/cpu/fp32/1"


def test_a_model_of_one_sample_answers_batches(tmp_path: Path) -> None:
    make_tensor_bundle(tmp_path / "b", ONE, ONES)
    assert edgeml.verify(tmp_path / "b").ok
    with edgeml.load(tmp_path / "b", num_threads=1, verify="golden") as predictor:
        answers = predictor.predict_batch(ONES * 20)
        x = np.array([sample["x"] for sample in ONES], dtype=np.float32)
        assert np.allclose(predictor.run({"x": x})["y"], np.log(x))
    assert len(answers) == 40
    assert answers[1].outputs is not None
    assert np.allclose(answers[1].outputs["y"], np.log(ONES[1]["x"]))


@pytest.mark.parametrize(
    ("variants", "safe", "answers"),
    [
        (("int8",), (), 0.0),  # nothing is safe: each sample alone
        (("fp32", "int8"), (), 0.0),  # fp32 is not safe either
        (("fp32", "int8"), ("fp32",), 1.5),
        (("half", "int8"), ("half",), 1.5),  # accepted and safe, whatever its name
    ],
    ids=["only-int8", "none-safe", "fp32-safe", "other-safe"],
)
def test_an_unsafe_variant_answers_batches_sample_by_sample_where_none_is_safe(
    tmp_path: Path, variants: tuple[str, ...], safe: tuple[str, ...], answers: float
) -> None:
    """The graph subtracts the batch's mean, so that a sample alone gives zero."""
    make_tensor_bundle(tmp_path / "b", COUPLED, ONES, variants=variants, batch_safe=False)

    def mark(value: dict[str, list[dict[str, object]]]) -> None:
        for row in value["variants"]:
            row["batch_safe"] = row["name"] in safe

    spoil(tmp_path / "b", mark)
    with edgeml.load(tmp_path / "b", num_threads=1, verify="golden") as predictor:
        both = predictor.predict_batch(ONES)
        fed = predictor.run({"x": np.array([row["x"] for row in ONES], dtype=np.float32)})
    expected = safe[0] if safe else "int8"
    assert {row.served_by for row in both} == {f"onnxruntime/cpu/{expected}/1"}
    assert np.abs(fed["y"]).max() == answers
    assert both[1].outputs is not None
    assert both[1].outputs["y"].tolist() == [answers] * 3


def test_a_rejected_variant_does_not_answer_batches(tmp_path: Path) -> None:
    make_tensor_bundle(tmp_path / "b", COUPLED, ONES, variants=("half", "int8"), batch_safe=False)
    spoil(
        tmp_path / "b",
        lambda value: value["variants"][0].update(batch_safe=True, verdict="rejected"),
    )
    with edgeml.load(tmp_path / "b", num_threads=1) as predictor:
        assert {row.served_by for row in predictor.predict_batch(ONES)} == {
            "onnxruntime/cpu/int8/1"
        }
