"""Retries within a budget, and pauses from zero up."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from edgeml.serving.routing.retries import RetryBudget, pause_s


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]))
def test_no_more_than_the_share_and_a_burst(retried, share):
    budget = RetryBudget(share, burst=3.0)
    taken = 0
    for wants in retried:
        budget.note_call()
        taken += wants and budget.take()
    assert taken <= share * len(retried) + (3 if share else 0)


def test_all_of_the_share_can_be_used():
    budget = RetryBudget(0.1, burst=3.0)
    taken = 0
    for _ in range(1000):
        budget.note_call()
        taken += budget.take()
    assert 100 <= taken <= 103


@given(st.integers(0, 6), st.integers(0, 1000))
def test_pauses_are_full_jitter(attempt, seed):
    pause = pause_s(attempt, longest_s=0.02, source=random.Random(seed))
    assert 0.0 <= pause <= 0.02 * 2**attempt


def test_pauses_differ():
    source = random.Random(0)
    pauses = [pause_s(0, longest_s=1.0, source=source) for _ in range(200)]
    assert min(pauses) < 0.1
    assert max(pauses) > 0.9
