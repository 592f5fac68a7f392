"""What a report says, against figures that are known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.training.figures import (
    calibration_error,
    class_rows,
    fit_temperature,
    macro_f1,
    negative_log_likelihood,
    probabilities,
)
from edgeml.training.text_report import text_report

LOGITS = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.5]], dtype=np.float32)
TARGETS = np.array([0, 1, 1, 1])
SEVERAL = np.array([[True, False], [False, True], [False, True], [True, True]])


def _answers(rng: np.random.Generator, count: int, *, sharpness: float) -> tuple[object, object]:
    """Answers that are right as often as their unsharpened probabilities say."""
    logits = rng.normal(0, 2, (count, 3))
    chances = probabilities(logits, multi_label=False)
    targets = np.array([rng.choice(3, p=row) for row in chances])
    return logits * sharpness, targets


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_overconfidence(rng: np.random.Generator, sharpness: float) -> None:
    logits, targets = _answers(rng, 4000, sharpness=sharpness)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(sharpness, rel=0.1)
    best = negative_log_likelihood(logits, targets, temperature=found)
    for near in (0.98, 1.02):
        assert negative_log_likelihood(logits, targets, temperature=found * near) >= best


def test_the_temperature_stays_in_bounds_and_needs_fifty_samples(rng: np.random.Generator) -> None:
    sure = np.tile([[1.0, 0.0]], (60, 1))
    assert fit_temperature(sure, np.zeros(60, dtype=np.int64)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(sure, np.ones(60, dtype=np.int64)) == pytest.approx(20, rel=1e-3)
    assert fit_temperature(sure[:49], np.zeros(49, dtype=np.int64)) == 1.0


def test_several_labels_have_a_temperature_too(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (3000, 2))
    targets = rng.random((3000, 2)) < probabilities(logits, multi_label=True)
    assert fit_temperature(logits * 3, targets) == pytest.approx(3, rel=0.1)


def test_the_calibration_error_is_the_gap_of_each_bin() -> None:
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [0.0, 1.0]])
    # Two answers at 0.9, half of them right; one at 0.65, right; one at 1.0, wrong.
    expected = (2 * 0.4 + 0.35 + 1.0) / 4
    assert calibration_error(chances, np.array([0, 1, 1, 0])) == pytest.approx(expected)


def test_classes_have_precision_recall_and_f1() -> None:
    rows = class_rows(LOGITS, TARGETS, ["a", "b"])
    assert rows[0] == {
        "label": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1
    }  # fmt: skip
    assert rows[1]["recall"] == pytest.approx(2 / 3)
    assert macro_f1(LOGITS, TARGETS) == pytest.approx((2 / 3 + 0.8) / 2)


def test_a_class_without_samples_counts_nothing() -> None:
    logits = np.array([[1.0, 0.0, -9.0], [0.0, 1.0, -9.0]])
    assert class_rows(logits, np.array([0, 1]), ["a", "b", "c"])[2]["f1"] == 0.0


def test_a_report_is_json_and_names_the_hardest_errors() -> None:
    report = text_report(
        LOGITS,
        TARGETS,
        texts=["one", "two", "x" * 400, "four"],
        truncated=[False, False, True, False],
        labels=["a", "b"],
    )
    value = json.loads(json.dumps(report, allow_nan=False))
    assert value["confusion"] == [[1, 0], [1, 2]]
    assert value["accuracy"] == 0.75
    assert value["truncation"] == {"cut": 1, "accuracy_cut": 0.0, "accuracy_uncut": 1.0}
    (error,) = value["hardest"]
    assert (error["right"], error["given"], len(error["text"])) == ("b", "a", 300)
    assert error["probability"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_the_surest_errors_come_first_and_are_at_most_twenty() -> None:
    logits = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    report = text_report(
        logits, np.ones(30, dtype=np.int64), texts=[str(n) for n in range(30)],
        truncated=[False] * 30, labels=["a", "b"],
    )  # fmt: skip
    assert [row["text"] for row in report["hardest"]][:2] == ["29", "28"]
    assert len(report["hardest"]) == 20
    assert report["truncation"]["accuracy_cut"] is None


def test_several_labels_are_right_only_all_together() -> None:
    logits = np.array([[2.0, -1.0], [-3.0, 1.0], [1.5, 1.0], [-2.0, 1.0]])
    report = text_report(
        logits, SEVERAL, texts=["p", "q", "r", "s"], truncated=[False] * 4, labels=["a", "b"]
    )
    assert report["accuracy"] == 0.5
    assert report["confusion"] == [[[1, 1], [1, 1]], [[1, 0], [0, 3]]]
    assert [row["text"] for row in report["hardest"]] == ["s", "r"]
    assert (report["hardest"][0]["right"], report["hardest"][0]["given"]) == (["a", "b"], ["b"])
    json.dumps(report, allow_nan=False)
