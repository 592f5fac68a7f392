"""Paired statistics against an independent computation, and the coverage that they promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.core.paired import compare_accuracy, compare_agreement, tango_upper_bound

_Z = 1.6448536269514722


def _pairs(lost: int, gained: int, count: int, *, both_right: int = 0) -> tuple[np.ndarray, ...]:
    """Two vectors of right and wrong with these discordant pairs."""
    reference = np.zeros(count, dtype=bool)
    candidate = np.zeros(count, dtype=bool)
    reference[:lost] = True
    candidate[lost : lost + gained] = True
    reference[lost + gained : lost + gained + both_right] = True
    candidate[lost + gained : lost + gained + both_right] = True
    return reference, candidate


def _bound_by_likelihood(lost: int, gained: int, count: int) -> float:
    """The same bound the long way: maximise the constrained likelihood by search, then bisect."""

    def log_likelihood(share: float, difference: float) -> float:
        terms = (
            (lost, share + difference),
            (gained, share),
            (count - lost - gained, 1 - 2 * share - difference),
        )
        return sum(n * math.log(max(p, 1e-300)) for n, p in terms if n)

    def statistic(difference: float) -> float:
        low, high = max(0.0, -difference), (1 - difference) / 2
        ratio = (math.sqrt(5) - 1) / 2
        for _ in range(120):  # golden section: the likelihood is concave in the share
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            if log_likelihood(left, difference) < log_likelihood(right, difference):
                low = left
            else:
                high = right
        share = (low + high) / 2
        variance = count * (2 * share + difference - difference**2)
        return (lost - gained - count * difference) / math.sqrt(max(variance, 1e-300))

    low, high = (lost - gained) / count, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if statistic(middle) > -_Z else (low, middle)
    return high


@dataclass(frozen=True, kw_only=True)
class CountsCase:
    """Discordant pairs out of so many."""

    lost: int
    gained: int
    count: int

    @property
    def id(self) -> str:
        return f"{self.lost}-{self.gained}-of-{self.count}"


@pytest.mark.parametrize(
    "case",
    [
        CountsCase(lost=0, gained=0, count=20),
        CountsCase(lost=1, gained=0, count=20),
        CountsCase(lost=0, gained=1, count=20),
        CountsCase(lost=5, gained=5, count=20),
        CountsCase(lost=9, gained=3, count=30),
        CountsCase(lost=3, gained=9, count=30),
        CountsCase(lost=12, gained=2, count=14),
        CountsCase(lost=40, gained=31, count=10_000),
        CountsCase(lost=0, gained=25, count=10_000),
        CountsCase(lost=25, gained=0, count=10_000),
    ],
    ids=lambda case: case.id,
)
def test_the_bound_equals_the_constrained_likelihood(case: CountsCase) -> None:
    got = tango_upper_bound(case.lost, case.gained, case.count)
    assert got == pytest.approx(_bound_by_likelihood(case.lost, case.gained, case.count), abs=2e-7)


@pytest.mark.parametrize("count", [1, 10, 300, 10_000])
def test_without_any_flip_the_bound_has_a_closed_form(count: int) -> None:
    # Wald would say 0 here, as if nothing could ever be lost.
    assert tango_upper_bound(0, 0, count) == pytest.approx(_Z**2 / (count + _Z**2), rel=1e-9)


def test_when_all_is_lost_the_bound_is_all() -> None:
    assert tango_upper_bound(7, 0, 7) == 1.0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
def test_the_bound_moves_the_right_way(lost: int, gained: int, rest: int) -> None:
    count = lost + gained + rest + 1
    bound = tango_upper_bound(lost, gained, count)
    assert (lost - gained) / count < bound <= 1
    assert tango_upper_bound(lost + 1, gained, count + 1) > bound - 1e-12
    if gained:
        assert tango_upper_bound(lost, gained - 1, count) > bound
    assert tango_upper_bound(lost, gained, count, z=2.5) > bound
    assert tango_upper_bound(lost, gained, count, z=0.5) < bound


@dataclass(frozen=True, kw_only=True)
class CoverageCase:
    """True rates of flips, and the size of the sample."""

    lost: float
    gained: float
    count: int

    @property
    def id(self) -> str:
        return f"{self.lost}-{self.gained}-of-{self.count}"


@pytest.mark.parametrize(
    "case",
    [
        CoverageCase(lost=0.001, gained=0.001, count=2000),
        CoverageCase(lost=0.004, gained=0.003, count=2000),
        CoverageCase(lost=0.005, gained=0.0, count=2000),
        CoverageCase(lost=0.01, gained=0.005, count=1000),
        CoverageCase(lost=0.02, gained=0.02, count=300),
        CoverageCase(lost=0.003, gained=0.001, count=10_000),
    ],
    ids=lambda case: case.id,
)
def test_the_bound_covers_the_truth_as_often_as_it_says(
    case: CoverageCase, rng: np.random.Generator
) -> None:
    bound = cache(tango_upper_bound)
    shares = [case.lost, case.gained, 1 - case.lost - case.gained]
    draws = rng.multinomial(case.count, shares, size=20_000)
    truth = case.lost - case.gained
    covered = np.mean([bound(int(b), int(c), case.count) >= truth for b, c, _ in draws])
    assert covered >= 0.94
    assert covered < 0.999  # a bound that always covers proves nothing


def test_a_comparison_counts_what_happened() -> None:
    result = compare_accuracy(*_pairs(3, 1, 200, both_right=150))
    assert (result.num_samples, result.lost, result.gained) == (200, 3, 1)
    assert result.reference == pytest.approx(153 / 200)
    assert result.candidate == pytest.approx(151 / 200)
    assert result.drop == pytest.approx(0.01)
    assert result.drop == pytest.approx(result.reference - result.candidate)
    assert result.upper_bound == tango_upper_bound(3, 1, 200)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_a_comparison_does_not_depend_on_order_and_turns_round(
    pairs: list[tuple[bool, bool]],
) -> None:
    reference, candidate = np.array(pairs).T
    result = compare_accuracy(reference, candidate)
    assert compare_accuracy(reference[::-1], candidate[::-1]) == result
    other = compare_accuracy(candidate, reference)
    assert (other.lost, other.gained, other.drop) == (result.gained, result.lost, -result.drop)
    assert -other.upper_bound < result.drop or result.drop == -1
    assert result.drop == pytest.approx(reference.mean() - candidate.mean())


def test_proven_means_that_the_bound_is_within_the_limit() -> None:
    result = compare_accuracy(*_pairs(3, 1, 1000))
    assert result.proven(result.upper_bound)
    assert not result.proven(result.upper_bound - 1e-9)
    assert result.drop < result.upper_bound


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (4,))], ids=repr)
def test_vectors_that_do_not_pair_are_refused(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(ValueError, match="one length"):
        compare_accuracy(np.ones(shapes[0], dtype=bool), np.ones(shapes[1], dtype=bool))


@given(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.0, 0.001, 0.005, 0.02]))
def test_the_samples_needed_are_the_fewest_that_prove(
    lost: int, gained: int, max_drop: float
) -> None:
    count = 400
    result = compare_accuracy(*_pairs(lost, gained, count))
    needed = result.samples_needed(max_drop)
    if result.drop >= max_drop:
        assert needed is None
        return
    if needed is None:  # more than anybody has
        assert tango_upper_bound(lost * 2500, gained * 2500, count * 2500) > max_drop
        return

    def bound(samples: int) -> float:
        return tango_upper_bound(lost / count * samples, gained / count * samples, samples)

    assert bound(needed) <= max_drop
    assert needed <= 2 or bound(needed - 1) > max_drop
    # What is already proven needs no more than there is, and the other way round.
    assert result.proven(max_drop) == (needed <= count)


def test_agreement_of_equals_is_perfect(rng: np.random.Generator) -> None:
    probabilities = rng.dirichlet(np.ones(5), size=50).astype(np.float32)
    result = compare_agreement(probabilities, probabilities.copy())
    assert (result.num_samples, result.flips, result.mean_kl, result.max_difference) == (
        50,
        0,
        0,
        0,
    )


def test_agreement_is_what_its_definitions_say(rng: np.random.Generator) -> None:
    reference = rng.dirichlet(np.ones(4), size=200)
    candidate = rng.dirichlet(np.ones(4), size=200)
    result = compare_agreement(reference, candidate)
    flips = sum(
        int(np.argmax(p) != np.argmax(q)) for p, q in zip(reference, candidate, strict=True)
    )
    divergence = [
        sum(p * math.log(p / q) for p, q in zip(one, other, strict=True))
        for one, other in zip(reference.tolist(), candidate.tolist(), strict=True)
    ]
    assert result.flips == flips / 200
    assert 0 < result.flips < 1
    assert result.mean_kl == pytest.approx(np.mean(divergence))
    assert result.max_difference == pytest.approx(np.abs(reference - candidate).max())


def test_agreement_of_several_labels_is_that_of_each_label() -> None:
    reference = np.array([[0.9, 0.6], [0.2, 0.7]])
    higher = np.array([[0.99, 0.99], [0.2, 0.4]])
    result = compare_agreement(reference, higher, multi_label=True)
    assert result.flips == 0.5  # the second text loses its only label; the best class is the same
    divergence = [
        p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        for p, q in zip(reference.ravel().tolist(), higher.ravel().tolist(), strict=True)
    ]
    assert result.mean_kl == pytest.approx(sum(divergence) / 2)
    # Read as shares of one whole, probabilities that are all too high would look nearer than equal.
    assert compare_agreement(reference[:1], higher[:1]).mean_kl < 0


def test_a_probability_of_zero_is_no_infinity() -> None:
    result = compare_agreement(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert result.flips == 1
    assert math.isfinite(result.mean_kl)
    assert result.mean_kl > 10
    assert result.max_difference == pytest.approx(1)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((0, 2), (0, 2)), ((2, 3), (2, 4))], ids=repr)
def test_probabilities_that_do_not_pair_are_refused(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(ValueError, match="samples, classes"):
        compare_agreement(np.ones(shapes[0]), np.ones(shapes[1]))
