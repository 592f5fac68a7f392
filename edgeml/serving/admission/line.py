"""The line before a limit: who starts, who waits, and who is refused at once.

A call is refused the moment it is clear that it cannot be answered by its deadline: when it
arrives behind too many others, when a call of higher priority takes a place before it, or when its
turn comes too late. So the line needs no bound of its own: the deadlines are its bound. It can
have one for calls without a deadline.

Nothing here waits, locks or reads a clock: every method is told the time, and returns the calls
whose state changed. The caller holds a lock and wakes them.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeml.serving.admission.estimates import RecentTimes

TOO_LATE = "too-late"
WAITED = "waited"
SHED = "shed"
FULL = "full"
# A call is expected to take as long as all but the slowest twentieth of the last ones: a stall must
# not close the line, and a call that is cut off at its deadline has cost the server its time.
_EXPECTED = 0.95
_WINDOW = 64
# The pace of the line is an estimate; a call that waits and is refused later has waited in vain.
_MARGIN = 1.25


class State(enum.Enum):
    """Where a call is."""

    WAITING = enum.auto()
    STARTED = enum.auto()
    REFUSED = enum.auto()
    ENDED = enum.auto()


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket:
    """One call.

    Attributes:
        rank: Its priority; 0 goes first.
        arrived_s: When it came.
        end_s: Its deadline.
        state: Where it is.
        started_s: When it left the line, if it did.
        reason: Why it was refused, if it was: ``too-late`` as it came, ``waited`` in vain, ``shed``
            for one of higher priority, ``full`` where there was no room.
        ahead: How many waited before it when it was refused.
        needed_s: How long an answer would have taken then.
    """

    rank: int
    arrived_s: float
    end_s: float
    state: State = State.WAITING
    started_s: float = 0.0
    reason: str = ""
    ahead: int = 0
    needed_s: float = 0.0

    @property
    def waited_s(self) -> float:
        """How long it waited before it started."""
        return self.started_s - self.arrived_s


class Line:
    """Calls under way, and those that wait: the higher priority first, then the older one.

    Args:
        limit: How many calls may be under way now.
        ranks: How many priorities there are.
        room: How many may wait; infinity where only deadlines bound the line.
    """

    def __init__(self, limit: Callable[[], int], *, ranks: int = 1, room: float = math.inf) -> None:
        self._limit = limit
        self._room = room
        self._waiting: tuple[deque[Ticket], ...] = tuple(deque() for _ in range(ranks))
        self._taken = RecentTimes(window=_WINDOW)
        self.under_way = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting))

    def waits_below(self, rank: int) -> bool:
        """Return whether a call of lower priority waits."""
        return any(self._waiting[rank + 1 :])

    @property
    def expected_s(self) -> float:
        """How long a call is expected to be under way; 0 before the first one has ended."""
        return self._taken.quantile_s(_EXPECTED)

    def start_by_s(self, ticket: Ticket) -> float:
        """Return the last moment at which a waiting call may start."""
        return max(ticket.arrived_s, ticket.end_s - self.expected_s)

    def arrive(self, now_s: float, *, rank: int, end_s: float) -> tuple[Ticket, list[Ticket]]:
        """Take a call in.

        Args:
            now_s: Now.
            rank: Its priority.
            end_s: Its deadline.

        Returns:
            Its ticket, and the waiting calls that were refused for it.
        """
        ticket = Ticket(rank=rank, arrived_s=now_s, end_s=end_s)
        # With nothing under way a call always goes: else a slow spell, once past, would never be
        # found to be over.
        if not self.under_way:
            self._start(ticket, now_s)
            return ticket, []
        places = self._limit() - self.under_way
        ahead = sum(len(line) for line in self._waiting[: rank + 1])
        needed_s = self._needed_s(ahead, free=places > 0)
        if now_s + needed_s > end_s:
            _refuse(ticket, TOO_LATE, ahead=ahead, needed_s=needed_s)
            return ticket, []
        if places > 0:
            self._start(ticket, now_s)
            return ticket, []
        if self.waiting >= self._room and not self.waits_below(rank):
            _refuse(ticket, FULL, ahead=ahead, needed_s=needed_s)
            return ticket, []
        self._waiting[rank].append(ticket)
        return ticket, [*self._shed_behind(rank, now_s), *self._shed_last()]

    def end(self, ticket: Ticket, now_s: float, *, counts: bool) -> list[Ticket]:
        """Note that a call under way is over.

        Args:
            ticket: The call.
            now_s: Now.
            counts: Whether it says how long calls take: an answer, or a wait for one in vain.

        Returns:
            The waiting calls that started, or were refused, because of it.
        """
        assert ticket.state is State.STARTED
        ticket.state = State.ENDED
        self.under_way -= 1
        if counts:
            self._taken.add(now_s - ticket.started_s)
        return list(self._advance(now_s))

    def give_up(self, ticket: Ticket, now_s: float) -> None:
        """Refuse a waiting call whose time has come; nothing happens to one that is past waiting.

        Args:
            ticket: The call.
            now_s: Now.
        """
        if ticket.state is State.WAITING:
            line = self._waiting[ticket.rank]
            ahead = sum(map(len, self._waiting[: ticket.rank])) + line.index(ticket)
            line.remove(ticket)
            needed_s = max(self._needed_s(ahead, free=False), ticket.end_s - now_s)
            _refuse(ticket, WAITED, ahead=ahead, needed_s=needed_s)

    def _needed_s(self, ahead: int, *, free: bool) -> float:
        """Return the time to an answer behind so many others (by Little's law their pace)."""
        pace_s = 0.0 if free else _MARGIN * self._taken.mean_s / self._limit()
        return (ahead + 1) * pace_s + self.expected_s

    def _start(self, ticket: Ticket, now_s: float) -> None:
        ticket.state = State.STARTED
        ticket.started_s = now_s
        self.under_way += 1

    def _advance(self, now_s: float) -> Iterator[Ticket]:
        """Start those whose turn it is, and refuse whose turn comes too late."""
        for line in self._waiting:
            while line and self.under_way < self._limit():
                ticket = line.popleft()
                if now_s + self.expected_s > ticket.end_s:
                    _refuse(ticket, WAITED, ahead=0, needed_s=self.expected_s)
                else:
                    self._start(ticket, now_s)
                yield ticket

    def _shed_behind(self, rank: int, now_s: float) -> Iterator[Ticket]:
        """Refuse calls of lower priority that a new one has put too far back."""
        ahead = sum(map(len, self._waiting[: rank + 1]))
        for line in self._waiting[rank + 1 :]:
            for ticket in list(line):
                needed_s = self._needed_s(ahead, free=False)
                if now_s + needed_s > ticket.end_s:
                    line.remove(ticket)
                    _refuse(ticket, SHED, ahead=ahead, needed_s=needed_s)
                    yield ticket
                else:
                    ahead += 1

    def _shed_last(self) -> Iterator[Ticket]:
        """Refuse the newest call of the lowest priority while more wait than there is room for."""
        while self.waiting > self._room:
            ticket = next(line for line in reversed(self._waiting) if line).pop()
            _refuse(
                ticket, SHED, ahead=self.waiting, needed_s=self._needed_s(self.waiting, free=False)
            )
            yield ticket


def _refuse(ticket: Ticket, reason: str, *, ahead: int, needed_s: float) -> None:
    ticket.state = State.REFUSED
    ticket.reason = reason
    ticket.ahead = ahead
    ticket.needed_s = needed_s
