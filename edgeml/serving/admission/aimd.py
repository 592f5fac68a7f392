"""A limit on calls under way that finds its own height: up by sums, down by factors.

The rule is that of TCP's congestion avoidance (Jacobson 1988; Chiu and Jain 1989 show that it
brings several senders to equal shares, which neither two sums nor two factors do). Netflix's
library concurrency-limits applied it to requests. What stands for a lost packet here is a call that
missed its deadline, came too close to it, or was refused by the server as too much.
"""

from __future__ import annotations

import math
from typing import Literal

from edgeml.serving.admission.line import Ticket

# How a call that was let through ended, as far as a limit cares: ``late`` was answered after its
# deadline, ``overloaded`` was refused by the server, ``failed`` says nothing about load.
Ending = Literal["answered", "late", "timeout", "overloaded", "failed"]
TIMED: tuple[Ending, ...] = ("answered", "late", "timeout")  # what says how long calls take


class AdaptiveLimit:
    """How many calls may be under way; never below 1.

    Args:
        initial: Where it begins.
        ceiling: Its largest value.
        backoff: What a sign of overload multiplies it with.

    Example:
        >>> limit = AdaptiveLimit(initial=4, ceiling=64, backoff=0.5)
        >>> limit.cut(started_s=0.0, now_s=1.0)
        True
        >>> limit.cut(started_s=0.5, now_s=1.1)  # began before the cut: says nothing new
        False
        >>> limit.value
        2
    """

    def __init__(self, *, initial: int, ceiling: int, backoff: float) -> None:
        self._exact = float(min(initial, ceiling))
        self._ceiling = ceiling
        self._backoff = backoff
        self._cut_s = -math.inf

    @property
    def value(self) -> int:
        """Calls that may be under way."""
        return int(self._exact)

    def grow(self, *, in_use: bool) -> None:
        """Note a call that was answered in good time: one more for each round of the limit.

        Args:
            in_use: Whether the limit was anything like reached. A limit that is not says nothing
                about what a higher one would do.
        """
        if in_use:
            self._exact = min(float(self._ceiling), self._exact + 1.0 / self._exact)

    def cut(self, *, started_s: float, now_s: float) -> bool:
        """Note a sign of overload.

        Calls that began before the last cut felt the limit as it was before: many that fail
        together are one sign, as losses within one window are to TCP.

        Args:
            started_s: When the call began.
            now_s: Now, on the same clock.

        Returns:
            Whether the limit was lowered for it.
        """
        if started_s < self._cut_s:
            return False
        self._exact = max(1.0, self._exact * self._backoff)
        self._cut_s = now_s
        return True

    def learn(
        self, ticket: Ticket, ending: Ending, *, now_s: float, under_way: int, slow_share: float
    ) -> str | None:
        """Move up or down for a call that is over.

        A limit that was not in use is not to blame for a slow answer, as it is not to be praised
        for a quick one: the server, or somebody else who asks it, is.

        Args:
            ticket: The call.
            ending: How it ended.
            now_s: Now.
            under_way: Calls under way, this one among them.
            slow_share: Share of its time that a call may be under way before it counts as slow.

        Returns:
            Why the limit was lowered: ``slow``, ``late``, ``timeout`` or ``overloaded``; None where
            it was not.
        """
        in_use = 2 * under_way >= self.value
        slow_s = slow_share * (ticket.end_s - ticket.arrived_s)
        if ending == "answered" and now_s - ticket.started_s <= slow_s:
            self.grow(in_use=in_use)
            return None
        overload = ending == "overloaded" or (in_use and ending in TIMED)
        if not overload or not self.cut(started_s=ticket.started_s, now_s=now_s):
            return None
        return "slow" if ending == "answered" else ending
