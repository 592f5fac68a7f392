"""Who sends the next query of an open loop, and when.

There is no thread that hands queries out: a hand-over costs a wake-up in the path that is
measured. The callers take turns instead. One holds the turn and waits for the next arrival; when it
is due the caller gives the turn away and sends. As long as a caller is free, someone is waiting
for the next arrival, however many answers are outstanding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

from edgeml.bench.clock import Clock


class Turnstile:
    """Lets queries through one by one, each at its time.

    Args:
        due_ns: Absolute times on the clock, in rising order.
        callers: Callers that will come; all are free at first.
        when_busy: What happens to queries that fall due while no caller is free.
        clock: The clock.
    """

    def __init__(
        self,
        due_ns: Sequence[int],
        *,
        callers: int,
        when_busy: Literal["drop", "queue"],
        clock: Clock,
    ) -> None:
        self._due_ns = due_ns
        self._drop = when_busy == "drop"
        self._clock = clock
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._next = 0
        self._free = callers
        self._free_since_ns = 0
        self.dropped: list[int] = []

    def take(self) -> tuple[int, int] | None:
        """Wait for the next query that is to be sent, and take it.

        Returns:
            Its number, and the earliest time at which it could have been sent: when it was due and
            a caller was free. None when there is none left.
        """
        with self._turn:
            while self._next < len(self._due_ns):
                query, due_ns = self._next, self._due_ns[self._next]
                self._next += 1
                if self._drop and due_ns < self._free_since_ns:
                    self.dropped.append(query)
                    continue
                self._clock.wait_until(due_ns)
                with self._state:
                    self._free -= 1
                    return query, max(due_ns, self._free_since_ns)
            return None

    def give_back(self, done_ns: int) -> None:
        """Say that a caller who took a query is free again.

        Args:
            done_ns: When its call ended: what it did since then is the generator's own time.
        """
        with self._state:
            self._free += 1
            if self._free == 1:  # until then, nobody was there for an arrival
                self._free_since_ns = done_ns

    def stop(self) -> None:
        """Let nobody through any more; what is left was never sent."""
        if self._drop:
            self.dropped.extend(range(self._next, len(self._due_ns)))
        self._next = len(self._due_ns)
