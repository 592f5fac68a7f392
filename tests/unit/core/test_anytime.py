"""Tests that may be looked at all the time: false alarms are rare however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.core.anytime import ExcessCount, mean_shift_evidence

RUNS, STEPS, LEVEL = 200, 200, 0.05


def first_alarm(values: np.ndarray, limit: float) -> int | None:
    """After how many values the evidence reaches the level, looking after each."""
    counts = ExcessCount()
    for step, value in enumerate(values, start=1):
        counts.add(int(value))
        if counts.evidence(limit) >= 1 / LEVEL:
            return step
    return None


@pytest.mark.parametrize(("chance", "limit"), [(0.5, 0.0), (0.55, 0.1), (0.6, 0.3)])
def test_false_alarms_keep_the_level_although_every_value_is_looked_at(
    chance: float, limit: float, rng: np.random.Generator
) -> None:
    # The mean of +1 with this chance and -1 otherwise is at the limit or below it.
    draws = np.where(rng.random((RUNS, STEPS)) < chance, 1, -1)
    alarms = sum(first_alarm(row, limit) is not None for row in draws)
    assert alarms <= LEVEL * RUNS


@pytest.mark.parametrize("limit", [0.01, 0.2])
def test_failures_within_the_limit_raise_no_alarm(limit: float, rng: np.random.Generator) -> None:
    draws = (rng.random((RUNS, STEPS)) < limit).astype(int)
    assert sum(first_alarm(row, limit) is not None for row in draws) <= LEVEL * RUNS


def test_a_fixed_threshold_looked_at_all_the_time_would_not_keep_it(
    rng: np.random.Generator,
) -> None:
    # Why such a test is needed: the usual z test, looked at after each of the same values.
    draws = np.where(rng.random((RUNS, STEPS)) < 0.5, 1, -1)
    z = draws.cumsum(axis=1) / np.sqrt(np.arange(1, STEPS + 1))
    assert (z[:, 20:].max(axis=1) > 1.645).mean() > 3 * LEVEL


@pytest.mark.parametrize(("chance", "within"), [(1.0, 10), (0.5, 40), (0.2, 120)])
def test_excess_is_found_soon(chance: float, within: int, rng: np.random.Generator) -> None:
    alarms = [first_alarm(rng.random(STEPS) < chance, 0.01) for _ in range(50)]
    assert np.median([alarm or STEPS for alarm in alarms]) <= within


def test_means_of_any_values_keep_the_level_and_are_found(rng: np.random.Generator) -> None:
    def alarms(shift: float, runs: int) -> int:
        values = np.clip(rng.normal(shift, 0.2, (runs, 2 * STEPS)), -1, 1)
        sums, squares = values.cumsum(axis=1), (values**2).cumsum(axis=1)
        return sum(
            any(
                mean_shift_evidence(sums[run, at], squares[run, at], at + 1, limit=0.1) >= 1 / LEVEL
                for at in range(0, 2 * STEPS, 6)
            )
            for run in range(runs)
        )

    assert alarms(0.1, 200) <= LEVEL * 200
    assert alarms(0.2, 20) == 20


def test_evidence_does_not_overflow() -> None:
    assert ExcessCount(above=10**6).evidence(0.0) > 1e300
    assert ExcessCount(below=10**6).evidence(0.0) == pytest.approx(0.0)
    assert ExcessCount().evidence(0.1) == pytest.approx(1.0)


def test_counts_know_their_mean() -> None:
    counts = ExcessCount()
    for difference in (1, 0, -1, 1):
        counts.add(difference)
    assert (counts.above, counts.equal, counts.below, counts.count) == (2, 1, 1, 4)
    assert counts.mean == pytest.approx(0.25)
    assert ExcessCount().mean == pytest.approx(0.0)
