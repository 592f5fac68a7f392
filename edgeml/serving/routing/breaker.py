"""A circuit breaker: whether a server is worth asking, from what became of the last calls.

Closed, calls go to the server. Open, none do, and golden requests ask whether it is well. Half open
is the time while such a request is under way: calls still stay away, so that no caller is the one
who finds out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from edgeml.serving.routing.fallback_settings import FallbackSettings
from edgeml.serving.routing.faults import Fault

State = Literal["closed", "open", "half_open"]
STATES: tuple[State, ...] = ("closed", "open", "half_open")
OnChange = Callable[[State, State, str], None]

# The server itself says that it does not run the model: there is nothing to wait for.
_CERTAIN: frozenset[Fault] = frozenset({"not_ready"})


class Breaker:
    """Counts failures and decides. Safe to call from several threads.

    Args:
        settings: When it opens.
        on_change: Told the state before, the state after, and why; called without the lock held,
            in the thread that brought the change about.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        settings: FallbackSettings,
        *,
        on_change: OnChange | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._on_change = on_change or (lambda before, after, why: None)
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._period = 0
        self._in_a_row = 0
        self._last: deque[tuple[float, bool]] = deque(maxlen=settings.window_calls)

    @property
    def state(self) -> State:
        """What it is now."""
        return self._state

    def admit(self) -> int | None:
        """Return a ticket for a call that may go to the server, or None where none may."""
        return self._period if self._state == "closed" else None

    def record(self, ticket: int, fault: Fault | None) -> None:
        """Note what became of a call.

        Args:
            ticket: Of :meth:`admit`. One from before the breaker last opened is stale: it says
                nothing of the server as it is now, and is not counted.
            fault: What was wrong; None for an answer.
        """
        with self._lock:
            if self._state != "closed" or ticket != self._period:
                return
            self._in_a_row = 0 if fault is None else self._in_a_row + 1
            self._last.append((self._clock(), fault is not None))
            if fault is None or not self._is_enough(fault):
                return
            why = f"{fault}, {self._in_a_row} in a row"
            self._become("open")
        self._on_change("closed", "open", why)

    def trip(self, why: str) -> None:
        """Open at once, whatever the calls said."""
        with self._lock:
            before = self._state
            if before == "open":
                return
            self._become("open")
        self._on_change(before, "open", why)

    def start_probe(self) -> bool:
        """Become half open; return False where it is not open."""
        with self._lock:
            if self._state != "open":
                return False
            self._become("half_open")
        self._on_change("open", "half_open", "probe")
        return True

    def end_probe(self, *, good: bool) -> None:
        """Close after good probes, or open again after a bad one."""
        after: State = "closed" if good else "open"
        with self._lock:
            if self._state != "half_open":
                return
            self._become(after)
        self._on_change("half_open", after, "probe answered" if good else "probe failed")

    def _become(self, state: State) -> None:
        self._state = state
        if state == "closed":
            self._period += 1
            self._in_a_row = 0
            self._last.clear()

    def _is_enough(self, fault: Fault) -> bool:
        settings = self._settings
        if fault in _CERTAIN or self._in_a_row >= settings.failures_to_open:
            return True
        oldest = self._clock() - settings.window_s
        recent = [failed for when, failed in self._last if when >= oldest]
        # Half of a window at least: two failures of three calls are no share.
        if 2 * len(recent) < settings.window_calls:
            return False
        return sum(recent) / len(recent) >= settings.failure_share_to_open
