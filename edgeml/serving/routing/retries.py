"""Retries that cannot become a storm: a budget for all calls together, and pauses at random."""

from __future__ import annotations

import random
import threading

from edgeml.serving.routing.faults import Fault

# A full server is not helped by asking again, a model that is not loaded will not be in a moment,
# and after a timeout there is no time left.
WORTH_A_RETRY: frozenset[Fault] = frozenset({"unreachable", "error"})
_BURST = 10.0


class RetryBudget:
    """A bucket of tokens: each call puts a share of one in, each retry takes one out.

    Args:
        share: Retries for each call, in the long run.
        burst: Tokens that it holds at most, and has at the start.
    """

    def __init__(self, share: float, *, burst: float = _BURST) -> None:
        self._share = share
        self._burst = burst
        self._tokens = burst if share > 0 else 0.0
        self._lock = threading.Lock()

    def note_call(self) -> None:
        """Put in a call's share."""
        with self._lock:
            self._tokens = min(self._burst, self._tokens + self._share)

    def take(self) -> bool:
        """Return whether one more retry is within the budget, and take it out."""
        with self._lock:
            if self._share <= 0 or self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


def pause_s(attempt: int, *, longest_s: float, source: random.Random) -> float:
    """Return the pause before a retry: anything from zero up to a limit that doubles (full jitter).

    Args:
        attempt: 0 for the first retry.
        longest_s: Limit of the first pause.
        source: Of randomness.
    """
    return source.uniform(0.0, longest_s * 2**attempt)
