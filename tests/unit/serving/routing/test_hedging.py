"""Races: the first answer wins, whoever fails, and the caller's deadline goes along."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeml.core.deadline import deadline, remaining_s
from edgeml.errors import ClosedError
from edgeml.serving.routing.hedging import Hedger


@pytest.fixture
def hedger():
    made = Hedger(2)
    yield made
    made.close()


def answering(value, gate=None):
    def ask():
        if gate is not None:
            assert gate.wait(5)
        return value

    return ask


def failing(gate=None):
    def ask():
        if gate is not None:
            assert gate.wait(5)
        raise ValueError("no answer")

    return ask


def test_a_quick_server_is_alone(hedger):
    finish = hedger.race(answering("s"), failing(), after_s=5.0)
    assert (finish.runner, finish.answer, finish.hedged) == ("server", "s", False)


def test_the_edge_overtakes_a_slow_server(hedger):
    gate = threading.Event()
    finish = hedger.race(answering("s", gate), answering("e"), after_s=0.01)
    gate.set()
    assert (finish.runner, finish.answer, finish.hedged) == ("edge", "e", True)


def test_the_server_may_still_win(hedger):
    gate, started = threading.Event(), threading.Event()

    def edge():
        started.set()
        assert gate.wait(5)
        return "e"

    def server():
        assert started.wait(5)
        return "s"

    finish = hedger.race(server, edge, after_s=0.01)
    gate.set()
    assert (finish.runner, finish.answer, finish.hedged) == ("server", "s", True)


def test_an_answer_beats_a_failure_that_came_first(hedger):
    gate = threading.Event()
    slow = threading.Timer(0.05, gate.set)
    slow.start()
    finish = hedger.race(answering("s", gate), failing(), after_s=0.01)
    assert (finish.runner, finish.answer, finish.error) == ("server", "s", None)


def test_a_failure_before_the_edges_turn_is_told_at_once(hedger):
    finish = hedger.race(failing(), answering("e"), after_s=5.0)
    assert finish.runner == "server"
    assert isinstance(finish.error, ValueError)
    assert not finish.hedged


def test_two_failures_are_a_failure(hedger):
    gate = threading.Event()
    threading.Timer(0.05, gate.set).start()
    finish = hedger.race(failing(gate), failing(gate), after_s=0.01)
    assert isinstance(finish.error, ValueError)


def test_more_races_than_threads_are_refused_and_later_ones_run(hedger):
    gate = threading.Event()
    with ThreadPoolExecutor(2) as callers:
        under_way = [
            callers.submit(hedger.race, answering("s", gate), answering("e", gate), after_s=0.0)
            for _ in range(2)
        ]
        end = time.monotonic() + 5
        while hedger.race(answering("s"), answering("e"), after_s=5.0) is not None:
            assert time.monotonic() < end
        gate.set()
        assert all(race.result().error is None for race in under_way)
    end = time.monotonic() + 5
    while hedger.race(answering("s"), answering("e"), after_s=5.0) is None:
        assert time.monotonic() < end


def test_runners_know_the_callers_deadline(hedger):
    with deadline(3.0):
        finish = hedger.race(remaining_s, remaining_s, after_s=5.0)
    assert 0 < finish.answer <= 3.0


def test_a_closed_one_says_so():
    made = Hedger(1)
    made.close()
    with pytest.raises(ClosedError):
        made.race(answering("s"), answering("e"), after_s=1.0)
