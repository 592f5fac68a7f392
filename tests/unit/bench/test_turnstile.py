"""Turns: who sends, when it could have been sent, and what becomes of it when nobody is free."""

from __future__ import annotations

from typing import Literal

from edgeml.bench.turnstile import Turnstile
from tests.unit.bench.virtual import VirtualClock

_MS = 1_000_000


def _turnstile(
    due_ms: list[float], *, callers: int, when_busy: Literal["drop", "queue"] = "drop"
) -> tuple[Turnstile, VirtualClock]:
    clock = VirtualClock()
    clock.time_ns = 0
    due = [int(time * _MS) for time in due_ms]
    return Turnstile(due, callers=callers, when_busy=when_busy, clock=clock), clock


def test_queries_are_sent_when_they_are_due_whatever_is_outstanding() -> None:
    turnstile, clock = _turnstile([1, 2, 3], callers=3)
    for number in range(3):
        assert turnstile.take() == (number, (number + 1) * _MS)
        assert clock.time_ns == (number + 1) * _MS
    assert turnstile.take() is None


def test_what_falls_due_while_nobody_is_free_is_dropped() -> None:
    turnstile, clock = _turnstile([1, 2, 3, 10], callers=1)
    assert turnstile.take() == (0, _MS)
    clock.advance(5)  # the answer comes at 6
    turnstile.give_back(clock.time_ns)
    assert turnstile.take() == (3, 10 * _MS)
    assert turnstile.dropped == [1, 2]


def test_what_falls_due_while_nobody_is_free_waits_where_it_may() -> None:
    turnstile, clock = _turnstile([1, 2, 10], callers=1, when_busy="queue")
    assert turnstile.take() == (0, _MS)
    clock.advance(5)
    turnstile.give_back(clock.time_ns)
    clock.advance(2)  # the caller dawdles, which is the generator's own time
    # It could have been sent at 6, when the caller was free: the wait is not the generator's.
    assert turnstile.take() == (1, 6 * _MS)
    assert turnstile.dropped == []


def test_a_generator_that_oversleeps_is_late_and_drops_nothing() -> None:
    turnstile, clock = _turnstile([1, 2, 3], callers=2)
    assert turnstile.take() == (0, _MS)
    clock.advance(8)  # somebody kept the processor; the second caller was free all the time
    query, able_ns = turnstile.take() or (None, 0)
    assert (query, able_ns, clock.time_ns) == (1, 2 * _MS, 9 * _MS)
    turnstile.give_back(clock.time_ns)
    assert turnstile.dropped == []


def test_nobody_is_let_through_a_stopped_turnstile() -> None:
    turnstile, _ = _turnstile([1, 2, 3], callers=1)
    turnstile.take()
    turnstile.stop()
    assert turnstile.take() is None
    assert turnstile.dropped == [1, 2]
