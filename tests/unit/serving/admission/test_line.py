"""Who starts, who waits and who is refused: without threads, on a clock that is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.serving.admission.aimd import AdaptiveLimit
from edgeml.serving.admission.estimates import RecentTimes
from edgeml.serving.admission.line import FULL, SHED, TOO_LATE, WAITED, Line, State, Ticket


def _line(limit: int, *, takes_s: float = 0.0, ranks: int = 3) -> Line:
    """Return a line that has seen calls of this length."""
    line = Line(lambda: limit, ranks=ranks)
    if takes_s:
        for _ in range(4):
            ticket, _ = line.arrive(0.0, rank=0, end_s=1e9)
            line.end(ticket, takes_s, counts=True)
    return line


def _arrive(line: Line, now_s: float, *, left_s: float = 1e9, rank: int = 1) -> Ticket:
    return line.arrive(now_s, rank=rank, end_s=now_s + left_s)[0]


def test_calls_start_up_to_the_limit_and_the_others_wait_in_order() -> None:
    line = _line(2)
    one, two, three, four = (_arrive(line, number) for number in range(4))
    assert [one.state, two.state] == [State.STARTED] * 2
    assert [three.state, four.state] == [State.WAITING] * 2
    assert line.end(two, 9.0, counts=True) == [three]
    assert (three.state, three.waited_s) == (State.STARTED, 7.0)
    assert four.state is State.WAITING


def test_a_call_that_cannot_be_answered_in_time_is_refused_as_it_comes() -> None:
    line = _line(1, takes_s=1.0)
    under_way, waits = _arrive(line, 10.0), _arrive(line, 10.0, left_s=5.0)
    # One under way, one before it, and its own second: three, and a quarter more for the pace.
    late = _arrive(line, 10.0, left_s=3.4)
    assert (under_way.state, waits.state) == (State.STARTED, State.WAITING)
    assert (late.state, late.reason, late.ahead) == (State.REFUSED, TOO_LATE, 1)
    assert late.needed_s == pytest.approx(2 * 1.25 + 1.0)
    assert _arrive(line, 10.0, left_s=3.6).state is State.WAITING


def test_more_places_at_once_make_the_line_quicker() -> None:
    for limit, fits in ((1, False), (4, True)):
        line = _line(limit, takes_s=1.0)
        for _ in range(limit + 4):
            _arrive(line, 0.0)
        assert (_arrive(line, 0.0, left_s=3.0).state is State.WAITING) is fits


def test_a_call_goes_before_those_of_lower_priority_which_are_shed_if_it_makes_them_late() -> None:
    line = _line(1, takes_s=1.0)
    running = _arrive(line, 0.0)
    low = _arrive(line, 0.0, left_s=2.5, rank=2)
    patient = _arrive(line, 0.0, left_s=20.0, rank=2)
    high, shed = line.arrive(0.0, rank=0, end_s=20.0)
    assert shed == [low]
    assert (low.state, low.reason, low.ahead) == (State.REFUSED, SHED, 1)
    assert line.end(running, 1.0, counts=True) == [high]
    assert line.end(high, 2.0, counts=True) == [patient]


def test_a_low_priority_never_sheds_a_higher_one() -> None:
    line = _line(1, takes_s=1.0)
    _arrive(line, 0.0)
    high = _arrive(line, 0.0, left_s=2.3, rank=0)
    for _ in range(5):
        _, shed = line.arrive(0.0, rank=2, end_s=100.0)
        assert shed == []
    assert high.state is State.WAITING


def test_a_turn_that_comes_too_late_is_not_taken() -> None:
    line = _line(1, takes_s=1.0)
    slow = _arrive(line, 0.0)
    hasty, patient = _arrive(line, 0.0, left_s=4.0), _arrive(line, 0.0, left_s=40.0)
    assert line.end(slow, 3.5, counts=True) == [hasty, patient]
    assert (hasty.state, hasty.reason) == (State.REFUSED, WAITED)
    assert patient.state is State.STARTED


def test_a_slow_spell_is_forgotten_because_one_call_always_goes() -> None:
    line = _line(4, takes_s=100.0)
    now_s, started = 1000.0, 0
    for _ in range(200):
        calls = [_arrive(line, now_s, left_s=1.0) for _ in range(4)]
        running = [call for call in calls if call.state is State.STARTED]
        started += len(running)
        assert running
        now_s += 0.1
        for call in running:
            line.end(call, now_s, counts=True)
    assert started > 400  # at first one at a time, then four


def test_a_call_that_gives_up_makes_room() -> None:
    line = _line(1)
    running, waits, next_one = (_arrive(line, 0.0, left_s=5.0) for _ in range(3))
    line.give_up(waits, 5.0)
    assert (waits.state, waits.reason) == (State.REFUSED, WAITED)
    assert line.end(running, 5.0, counts=False) == [next_one]
    line.give_up(next_one, 6.0)
    assert next_one.state is State.STARTED


def test_a_line_with_a_bound_refuses_what_has_no_room_unless_a_lower_priority_has_some() -> None:
    line = Line(lambda: 1, ranks=3, room=2)
    running = _arrive(line, 0.0)
    older, newer = _arrive(line, 0.0, rank=2), _arrive(line, 0.0, rank=2)
    full = _arrive(line, 0.0, rank=2)
    assert (full.state, full.reason) == (State.REFUSED, FULL)
    high, shed = line.arrive(0.0, rank=0, end_s=1e9)
    assert (high.state, shed, newer.reason) == (State.WAITING, [newer], SHED)
    assert line.end(running, 1.0, counts=True) == [high]
    assert older.state is State.WAITING


def test_recent_times_forget_the_oldest() -> None:
    times = RecentTimes(window=3)
    assert (times.mean_s, times.quantile_s(0.95)) == (0.0, 0.0)
    for seconds in (5.0, 1.0, 1.0, 4.0):
        times.add(seconds)
    assert len(times) == 3
    assert times.mean_s == pytest.approx(2.0)
    assert (times.quantile_s(0.5), times.quantile_s(0.95)) == (1.0, 4.0)


def test_a_limit_grows_by_one_a_round_and_falls_once_for_many_signs() -> None:
    limit = AdaptiveLimit(initial=4, ceiling=8, backoff=0.5)
    for _ in range(4):
        limit.grow(in_use=False)
    assert limit.value == 4
    for _ in range(5):
        limit.grow(in_use=True)
    assert limit.value == 5
    assert [limit.cut(started_s=0.0, now_s=1.0 + late) for late in range(5)] == [True] + 4 * [False]
    assert limit.value == 2
    assert limit.cut(started_s=1.5, now_s=9.0)
    for _ in range(9):
        limit.cut(started_s=100.0, now_s=100.0)
    assert limit.value == 1
    for _ in range(200):
        limit.grow(in_use=True)
    assert limit.value == 8


@dataclass
class World:
    """Everything that happened to a line, and what must hold after each step."""

    limit: AdaptiveLimit = field(
        default_factory=lambda: AdaptiveLimit(initial=3, ceiling=6, backoff=0.5)
    )
    tickets: list[Ticket] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.line = Line(lambda: self.limit.value, ranks=3)

    def of(self, state: State) -> list[Ticket]:
        return [ticket for ticket in self.tickets if ticket.state is state]

    def check(self, changed: list[Ticket], waited_before: list[Ticket]) -> None:
        started, waiting = self.of(State.STARTED), self.of(State.WAITING)
        assert len(started) == self.line.under_way
        assert len(waiting) == self.line.waiting
        # Whoever left the line was reported, so that its thread is woken.
        left = [ticket for ticket in waited_before if ticket.state is not State.WAITING]
        assert set(map(id, left)) == set(map(id, changed))
        for ticket in changed:
            if ticket.state is State.STARTED:
                # Nobody of higher priority is left waiting, nor anybody older of the same.
                assert all(ticket.rank <= other.rank for other in waiting)
                same = [other for other in waiting if other.rank == ticket.rank]
                assert all(other.arrived_s >= ticket.arrived_s for other in same)
        if waiting:
            assert started


_STEP = st.one_of(
    st.tuples(st.just("arrive"), st.integers(0, 2), st.floats(0.01, 5.0)),
    st.tuples(st.just("end"), st.integers(0, 50), st.booleans()),
    st.tuples(st.just("give_up"), st.integers(0, 50), st.none()),
    st.tuples(st.just("cut"), st.none(), st.none()),
    st.tuples(st.just("grow"), st.none(), st.none()),
)


@given(steps=st.lists(st.tuples(st.floats(0.0, 1.0), _STEP), max_size=120))
@settings(max_examples=200, deadline=None)
def test_no_call_is_lost_and_none_overtakes(steps: list) -> None:
    world = World()
    for passed_s, (kind, number, value) in steps:
        world.now_s += passed_s
        waited = world.of(State.WAITING)
        changed: list[Ticket] = []
        room = world.line.under_way < world.limit.value
        if kind == "arrive":
            ticket, changed = world.line.arrive(world.now_s, rank=number, end_s=world.now_s + value)
            if ticket.state is State.STARTED:
                assert room or world.line.under_way == 1
            assert all(other.rank > number for other in changed)
            world.tickets.append(ticket)
        elif kind == "end" and (running := world.of(State.STARTED)):
            ticket = running[number % len(running)]
            changed = world.line.end(ticket, world.now_s, counts=value)
            begun = [other for other in changed if other.state is State.STARTED]
            assert not begun or world.line.under_way <= world.limit.value
        elif kind == "give_up" and waited:
            ticket = waited[number % len(waited)]
            world.line.give_up(ticket, world.now_s)
            changed = [ticket]
        elif kind == "cut":
            world.limit.cut(started_s=world.now_s, now_s=world.now_s)
        elif kind == "grow":
            world.limit.grow(in_use=True)
        world.check(changed, waited)
    while running := world.of(State.STARTED):
        world.line.end(running[0], world.now_s, counts=True)
    # Every call has been answered or refused: nobody waits with nobody under way.
    assert {ticket.state for ticket in world.tickets} <= {State.ENDED, State.REFUSED}
