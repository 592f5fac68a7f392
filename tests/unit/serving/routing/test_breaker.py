"""The breaker: what opens it, what does not, and that only good probes close it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.serving.routing.breaker import Breaker
from edgeml.serving.routing.fallback_settings import FallbackSettings
from tests.unit.serving.routing.scripted import Clock

SETTINGS = FallbackSettings(failures_to_open=5, window_calls=20, window_s=10.0)


def breaker(**settings):
    changes: list[tuple[str, str, str]] = []
    clock = Clock()
    made = Breaker(
        FallbackSettings(**settings) if settings else SETTINGS,
        on_change=lambda *change: changes.append(change),
        clock=clock,
    )
    return made, changes, clock


def test_failures_in_a_row_open_it():
    made, changes, _ = breaker()
    for _ in range(4):
        made.record(made.admit(), "timeout")
    assert made.state == "closed"
    made.record(made.admit(), "timeout")
    assert made.state == "open"
    assert made.admit() is None
    assert changes == [("closed", "open", "timeout, 5 in a row")]


def test_a_good_call_between_them_starts_the_row_again():
    made, _, _ = breaker()
    for _ in range(40):  # one failure in five: below the share
        for _ in range(4):
            made.record(made.admit(), None)
        made.record(made.admit(), "error")
    assert made.state == "closed"


def test_a_share_of_failures_opens_it_too():
    made, _, _ = breaker()
    for _ in range(5):
        made.record(made.admit(), None)
        made.record(made.admit(), "timeout")
    assert made.state == "open"


def test_old_failures_are_forgotten():
    made, _, clock = breaker()
    for _ in range(4):
        made.record(made.admit(), None)
        made.record(made.admit(), "timeout")
    clock.now += 11
    made.record(made.admit(), None)
    made.record(made.admit(), "timeout")
    assert made.state == "closed"


def test_a_server_without_the_model_opens_it_at_once():
    made, _, _ = breaker()
    made.record(made.admit(), "not_ready")
    assert made.state == "open"


def test_what_is_left_of_before_counts_for_nothing():
    made, _, _ = breaker()
    stale = made.admit()
    made.record(stale, "not_ready")
    assert made.start_probe()
    made.end_probe(good=True)
    assert made.state == "closed"
    for _ in range(10):
        made.record(stale, "not_ready")
    assert made.state == "closed"


def test_calls_stay_away_while_a_probe_is_under_way():
    made, changes, _ = breaker()
    made.trip("it was not there")
    assert made.start_probe()
    assert made.state == "half_open"
    assert made.admit() is None
    assert not made.start_probe()
    made.end_probe(good=False)
    assert made.state == "open"
    assert [row[:2] for row in changes] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
    ]


@given(
    st.lists(
        st.sampled_from(["good", "timeout", "error", "not_ready", "probe", "bad probe", "trip"]),
        max_size=60,
    )
)
def test_whatever_happens_it_is_open_after_enough_failures_and_closed_by_probes_alone(events):
    made, changes, _ = breaker()
    in_a_row = 0
    for event in events:
        ticket = made.admit()
        assert (ticket is not None) == (made.state == "closed")
        if event in ("probe", "bad probe"):
            if made.start_probe():
                made.end_probe(good=event == "probe")
                in_a_row = 0
        elif event == "trip":
            made.trip("told to")
        elif ticket is not None:
            in_a_row = 0 if event == "good" else in_a_row + 1
            made.record(ticket, None if event == "good" else event)
            if in_a_row >= 5 or event == "not_ready":
                assert made.state == "open"
    for before, after in itertools.pairwise(changes):
        assert before[1] == after[0]
    assert all(row[0] == "half_open" for row in changes if row[1] == "closed")


@pytest.mark.parametrize("state", ["closed", "open"])
def test_a_probe_that_nobody_started_changes_nothing(state):
    made, _, _ = breaker()
    if state == "open":
        made.trip("told to")
    made.end_probe(good=True)
    assert made.state == state
