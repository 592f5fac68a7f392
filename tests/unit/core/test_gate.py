"""The gate: what passes, what does not, and the reason that is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgeml.core.gate import Gate
from edgeml.core.paired import Agreement, PairedAccuracy, compare_accuracy, compare_agreement


def _paired(lost: int, gained: int, count: int) -> PairedAccuracy:
    reference = np.arange(count) < lost
    candidate = (np.arange(count) >= lost) & (np.arange(count) < lost + gained)
    return compare_accuracy(reference, candidate)


@dataclass(frozen=True, kw_only=True)
class GateCase:
    """Flips, a limit, and the verdict."""

    id: str
    lost: int
    gained: int
    count: int
    limit: float
    passes: bool
    proven: bool
    says: str


CASES = (
    GateCase(
        id="equal-to-the-limit", lost=3, gained=0, count=1000, limit=0.003, passes=True,
        proven=False, says="drop +0.30 points of 0.30 allowed (3 lost, 0 gained of 1000;",
    ),
    GateCase(
        id="net-equal-to-the-limit", lost=37, gained=30, count=1000, limit=0.007, passes=True,
        proven=False, says="drop +0.70 points",
    ),
    GateCase(
        id="one-over", lost=4, gained=0, count=1000, limit=0.003, passes=False, proven=False,
        says="not proven",
    ),
    GateCase(
        id="flips-that-cancel", lost=50, gained=50, count=1000, limit=0.0, passes=True,
        proven=False, says="50 lost, 50 gained",
    ),
    GateCase(
        id="better", lost=0, gained=30, count=1000, limit=0.0, passes=True, proven=True,
        says="drop -3.00 points",
    ),
    GateCase(
        id="few-samples", lost=0, gained=0, count=100, limit=0.005, passes=True, proven=False,
        says="539 samples needed",
    ),
    GateCase(
        id="many-samples", lost=0, gained=0, count=540, limit=0.005, passes=True, proven=True,
        says="proven)",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_verdict_and_its_reason(case: GateCase) -> None:
    paired = _paired(case.lost, case.gained, case.count)
    passed, reason = Gate(max_accuracy_drop=case.limit).judge_accuracy(paired)
    assert passed is case.passes
    assert case.says in reason
    assert ("not proven" not in reason) is case.proven is paired.proven(case.limit)
    assert "\n" not in reason


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_proof_on_request(case: GateCase) -> None:
    gate = Gate(max_accuracy_drop=case.limit, require_proof=True)
    passed, _ = gate.judge_accuracy(_paired(case.lost, case.gained, case.count))
    assert passed is (case.passes and case.proven)


def test_a_drop_at_the_limit_is_not_called_more_than_the_limit() -> None:
    # It passes; that no number of samples can prove it is another matter.
    passed, reason = Gate(max_accuracy_drop=0.003).judge_accuracy(_paired(3, 0, 1000))
    assert passed
    assert "at any number of samples" in reason
    assert "None" not in reason


def test_the_limit_holds_for_every_fraction() -> None:
    # lost/count and a limit written as a decimal are seldom the same binary number.
    for count in (7, 300, 999, 1000, 10_000):
        for lost in range(1, min(count, 60)):
            limit = round(lost / count, 15)
            assert Gate(max_accuracy_drop=limit).judge_accuracy(_paired(lost, 0, count))[0]
            tighter = Gate(max_accuracy_drop=(lost - 0.5) / count)
            assert not tighter.judge_accuracy(_paired(lost, 0, count))[0]


@dataclass(frozen=True, kw_only=True)
class AgreementCase:
    """How much a variant differs, and whether that is too much."""

    id: str
    passes: bool
    flips: float = 0.0
    mean_kl: float = 0.0
    max_difference: float = 0.0


@pytest.mark.parametrize(
    "case",
    [
        AgreementCase(id="same", passes=True),
        AgreementCase(
            id="at-every-limit", passes=True, flips=0.005, mean_kl=0.01, max_difference=0.05
        ),
        AgreementCase(id="flips", passes=False, flips=0.0051),
        AgreementCase(id="divergence", passes=False, mean_kl=0.0101),
        AgreementCase(id="difference", passes=False, max_difference=0.0501),
        AgreementCase(id="nan-divergence", passes=False, mean_kl=float("nan")),
        AgreementCase(id="nan-difference", passes=False, max_difference=float("nan")),
    ],
    ids=lambda case: case.id,
)
def test_agreement_without_labels(case: AgreementCase) -> None:
    agreement = Agreement(
        num_samples=400,
        flips=case.flips,
        mean_kl=case.mean_kl,
        max_difference=case.max_difference,
    )
    passed, reason = Gate().judge_agreement(agreement)
    assert passed is case.passes
    same = not (case.flips or case.mean_kl or case.max_difference)
    assert ("no difference" if same else f"{100 * case.flips:.2f} % flips") in reason
    assert "400 samples, no labels" in reason


def test_a_variant_that_answers_nan_never_passes(rng: np.random.Generator) -> None:
    reference = rng.dirichlet(np.ones(3), size=20)
    candidate = reference.copy()
    candidate[7] = np.nan
    passed, _ = Gate().judge_agreement(compare_agreement(reference, candidate))
    assert not passed


@pytest.mark.parametrize("name", ["max_accuracy_drop", "max_flips", "max_probability_difference"])
@pytest.mark.parametrize("value", [-0.001, 1.0, 5, float("nan"), float("inf")])
def test_a_limit_that_is_no_fraction_is_refused(name: str, value: float) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        Gate(**limits)


@pytest.mark.parametrize("value", [-0.001, float("nan"), float("inf")])
def test_a_divergence_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="max_mean_kl"):
        Gate(max_mean_kl=value)
    assert Gate(max_mean_kl=1.5).max_mean_kl == 1.5
