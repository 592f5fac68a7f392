"""The reporting split takes back what the selection split flattered."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.core.gate import Gate
from edgeml.core.paired import Agreement, PairedAccuracy, compare_accuracy
from edgeml.exporting.answers import Answers
from edgeml.exporting.trials import Trial
from edgeml.workflows import proving
from edgeml.workflows.candidates import Candidate
from edgeml.workflows.confirming import find_contradiction, is_fully_timed
from tests.unit.workflows import planted

GATE = Gate(max_accuracy_drop=0.01)


def _paired(lost: int, gained: int, count: int) -> PairedAccuracy:
    ours = np.ones(count, dtype=bool)
    theirs = ours.copy()
    ours[count - gained :] = False
    theirs[:lost] = False
    return compare_accuracy(ours, theirs)


def _row(**evidence: Any) -> Candidate:
    trial = Trial(name="int8", kind="file", precision="int8", file="x")
    return Candidate(trial=trial, name="int8", evidence=evidence)


def test_two_comparisons_become_one_of_all_samples() -> None:
    both = _paired(3, 1, 100).joined(_paired(5, 2, 300))
    whole = _paired(8, 3, 400)
    assert asdict(both) == pytest.approx(asdict(whole))


def test_two_agreements_become_one_of_all_samples() -> None:
    one = Agreement(num_samples=100, flips=0.02, mean_kl=0.4, max_difference=0.1)
    other = Agreement(
        num_samples=300, flips=0.0, mean_kl=0.0, max_difference=0.2, relative_error=0.1
    )
    both = one.joined(other)
    assert both.num_samples == 400
    assert both.flips == pytest.approx(0.005)
    assert both.mean_kl == pytest.approx(0.1)
    assert (both.max_difference, both.relative_error) == (0.2, 0.1)


def test_a_lucky_choice_is_contradicted_and_a_good_one_is_not() -> None:
    selected = {**asdict(_paired(1, 0, 100)), "limit": 0.01, "proven": False}
    lucky = _row(accuracy=selected, reported=asdict(_paired(6, 0, 100)))
    why = find_contradiction(lucky, GATE)
    assert why is not None
    assert "samples together: accuracy drop +3.50 points of 1.00 allowed" in why
    # A point too many on the reporting samples alone is no contradiction.
    noisy = _row(accuracy=selected, reported=asdict(_paired(2, 1, 100)))
    assert find_contradiction(noisy, replace(GATE, require_proof=True)) is None


def test_without_labels_the_agreement_counts() -> None:
    same = Agreement(num_samples=100, flips=0.0, mean_kl=0.0, max_difference=0.0)
    flipped = replace(same, flips=0.3)
    assert find_contradiction(
        _row(agreement=asdict(same), reported_agreement=asdict(flipped)), GATE
    )
    row = _row(agreement=asdict(same), reported_agreement=asdict(same))
    assert find_contradiction(row, GATE) is None
    assert find_contradiction(_row(), GATE) is None


def test_a_short_timing_is_known_as_one() -> None:
    assert not is_fully_timed(_row(latency={"timing": "screening"}))
    assert is_fully_timed(_row(latency={}))


def test_an_export_does_not_ship_what_the_reporting_split_contradicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path / "cache"))
    planted.dear(tmp_path)
    planted.good(tmp_path)
    planted.data(tmp_path)
    real = proving._reported
    calls = []

    def unlucky(reference: Answers, answers: Answers, *rest: Any) -> dict[str, Any]:
        if answers is reference:
            return real(reference, answers, *rest)
        calls.append(answers)
        paired = _paired(20, 0, len(answers))
        return {"reported_accuracy": paired.candidate, "reported": asdict(paired)}

    settings = replace(planted.SETTINGS, files=(str(tmp_path / "good.onnx"),))
    with monkeypatch.context() as patch:
        patch.setattr(proving, "make_space", planted.files_alone)
        before = edgeml.export(
            tmp_path / "dear.onnx",
            out=tmp_path / "before.bundle",
            data=tmp_path / "data.npz",
            settings=settings,
        )
    assert before.to_json()["chosen"] == "int8"
    monkeypatch.setattr(proving, "make_space", planted.files_alone)
    monkeypatch.setattr(proving, "_reported", unlucky)
    monkeypatch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path / "other-cache"))
    after = edgeml.export(
        tmp_path / "dear.onnx",
        out=tmp_path / "after.bundle",
        data=tmp_path / "data.npz",
        settings=settings,
    ).to_json()
    assert calls
    assert after["chosen"] == "fp32"
    (row,) = [row for row in after["variants"] if row["name"] == "int8"]
    assert row["verdict"] == "rejected"
    assert "on the selection and reporting samples together" in row["reason"]
