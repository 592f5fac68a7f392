"""Answers: each form of scores, values of differing sizes, how far apart two models are."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.exporting.answers import (
    UNBOUNDED,
    Answers,
    Form,
    Reading,
    collect_answers,
    compare_answers,
    largest_differences,
    read_outputs,
    relative_error,
)
from edgeml.tasks.samples import TensorSamples

LOGITS = np.array([[0.0, 1.0, -2.0], [3.0, 3.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("form", "raw", "expected"),
    [
        ("probabilities", [[0.2, 0.8]], [[0.2, 0.8]]),
        ("independent", [[0.9, 0.8]], [[0.9, 0.8]]),
        ("softmax", [[0.0, np.log(3.0)]], [[0.25, 0.75]]),
        ("sigmoid", [[0.0, np.log(3.0)]], [[0.5, 0.75]]),
        ("binary", [[0.3]], [[0.7, 0.3]]),
        ("binary", [0.3], [[0.7, 0.3]]),
        ("binary-sigmoid", [[np.log(3.0)]], [[0.25, 0.75]]),
        ("binary-sigmoid", [np.log(3.0)], [[0.25, 0.75]]),
    ],
)
def test_each_form_becomes_probabilities(form: Form, raw: Any, expected: Any) -> None:
    found = Reading(form=form).probabilities(np.array(raw, dtype=np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_large_logits_do_not_overflow(form: Form) -> None:
    raw = np.array([[1e4, -1e4]], dtype=np.float32)
    np.testing.assert_allclose(Reading(form=form).probabilities(raw), [[1.0, 0.0]])


def test_every_form_is_known_and_no_other() -> None:
    for form in get_args(Form):
        reading = Reading(form=form, values=("a", "b"))
        assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading
        assert reading.multi_label == (form in ("independent", "sigmoid"))
    with pytest.raises(ValueError, match="unknown form"):
        Reading(form="guess")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no output is read"):
        Reading(scores="", values=())


def _ragged() -> Answers:
    return Answers(
        probabilities=Reading(form="softmax").probabilities(LOGITS),
        values={
            "boxes": [np.ones((3, 4), np.float32), np.zeros((0, 4), np.float32)],
            "count": [np.array(3, np.int64), np.array(0, np.int64)],
        },
    )


def test_ragged_values_come_back_from_plain_arrays() -> None:
    made = _ragged()
    again = Answers.from_arrays(made.to_arrays())
    np.testing.assert_array_equal(again.probabilities, made.probabilities)  # type: ignore[arg-type]
    assert list(again.values) == ["boxes", "count"]
    for name, rows in made.values.items():
        for ours, theirs in zip(rows, again.values[name], strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_array_equal(ours, theirs)
    assert not any(array.dtype == object for array in made.to_arrays().values())


def test_values_alone_come_back_too() -> None:
    made = Answers(values={"y": [np.arange(3.0), np.arange(2.0)]})
    again = Answers.from_arrays(made.to_arrays())
    assert again.probabilities is None
    assert len(again) == 2
    np.testing.assert_array_equal(again.values["y"][1], [0.0, 1.0])


def test_first_and_joined_are_inverse() -> None:
    made = _ragged()
    rest = Answers(
        probabilities=made.probabilities[1:],  # type: ignore[index]
        values={name: rows[1:] for name, rows in made.values.items()},
    )
    again = made.first(1).joined(rest)
    assert len(made.first(1)) == 1
    np.testing.assert_array_equal(largest_differences(made, again), [0.0, 0.0])


def test_one_nan_anywhere_is_not_finite() -> None:
    assert _ragged().finite
    spoiled = Answers(values={"y": [np.array([1.0]), np.array([np.nan])]})
    assert not spoiled.finite
    assert not Answers(probabilities=np.array([[np.inf, 0.0]], np.float32)).finite
    assert Answers(values={"y": [np.array([1])]}).finite  # integers always are


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        ([[3.0, 4.0]], [[3.0, 4.5]], 0.1),
        ([[3.0], [4.0, 0.0]], [[3.0], [4.0, 0.0]], 0.0),
        ([[0.0]], [[0.0]], 0.0),
        ([[0.0]], [[0.1]], UNBOUNDED),
        ([[1.0]], [[1.0, 1.0]], UNBOUNDED),
        ([[1.0]], [[np.nan]], UNBOUNDED),
        ([[1.0]], [[np.inf]], UNBOUNDED),
    ],
)
def test_the_relative_error(reference: Any, candidate: Any, expected: float) -> None:
    arrays = [[np.array(row) for row in rows] for rows in (reference, candidate)]
    assert relative_error(*arrays) == pytest.approx(expected)


def test_every_difference_can_be_stored_as_json() -> None:
    ours = Answers(
        probabilities=np.array([[1.0, 0.0]] * 3, np.float32), values={"y": [np.ones(2)] * 3}
    )
    theirs = Answers(
        probabilities=np.array([[np.nan, 0.0], [1.0, 0.0], [1.0, 0.0]], np.float32),
        values={"y": [np.ones(2), np.ones(3), np.array([1.0, np.inf])]},
    )
    found = largest_differences(ours, theirs)
    np.testing.assert_array_equal(found, [UNBOUNDED] * 3)
    assert json.dumps({"worst": float(found.max()), "mean": float(found.mean())}, allow_nan=False)


def test_values_differ_relative_to_the_largest_of_their_output() -> None:
    ours = Answers(values={"y": [np.array([100.0]), np.array([1.0])]})
    theirs = Answers(values={"y": [np.array([101.0]), np.array([1.5])]})
    np.testing.assert_allclose(largest_differences(ours, theirs), [0.01, 0.005])


def test_comparison_counts_flips_and_errors_of_values() -> None:
    reading = Reading(values=("y",))
    ours = Answers(probabilities=np.eye(2, dtype=np.float32), values={"y": [np.ones(1)] * 2})
    theirs = Answers(
        probabilities=np.eye(2, dtype=np.float32)[[0, 0]], values={"y": [np.ones(1) * 1.1] * 2}
    )
    found = compare_answers(ours, theirs, reading)
    assert (found.flips, found.max_difference) == (0.5, pytest.approx(1.0))
    assert found.relative_error == pytest.approx(0.1)
    alone = compare_answers(Answers(values=ours.values), Answers(values=theirs.values), reading)
    assert (alone.flips, alone.mean_kl) == (0.0, 0.0)
    assert alone.relative_error == pytest.approx(0.1)


@pytest.mark.parametrize("batch", [1, 3, None])
def test_answers_come_in_the_order_of_the_samples(batch: int | None) -> None:
    signature = ModelSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 2)),),
        outputs=(TensorSpec(name="s", dtype="float32", shape=("batch", 2)),),
    )
    engine = FakeEngine(signature, answer=lambda feed: {"s": feed["x"]})
    rows = np.random.default_rng(0).random((7, 2), dtype=np.float32)
    reading = Reading(scores="s", form="independent")
    found = collect_answers(engine, TensorSamples({"x": rows}), reading, batch=batch)
    np.testing.assert_array_equal(found.probabilities, rows)  # type: ignore[arg-type]
    once = read_outputs({"s": rows}, reading)
    np.testing.assert_array_equal(once.probabilities, rows)  # type: ignore[arg-type]
