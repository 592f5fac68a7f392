"""One caller: its connection, its calls, and what it notes about each of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from edgeml.bench.clock import Clock
from edgeml.bench.record import Outcome
from edgeml.bench.targets import Target
from edgeml.errors import RequestRefusedError, ServerOverloadedError

NUM_FIELDS = 5  # of a row: query, sent, done, lag, outcome
_MAX_FAILURES = 5


class Caller:
    """Asks a target and keeps times, outcomes and answers.

    Args:
        target: What is asked.
        order: Samples in the order in which they are asked, again and again.
        clock: The clock.
        max_kept: Answers that it keeps; beyond, every second one is let go.
    """

    def __init__(
        self, target: Target, *, order: Sequence[int], clock: Clock, max_kept: int
    ) -> None:
        self._target = target
        self._order = order
        self._clock = clock
        self._keeps = target.checks_answers
        self._max_kept = max_kept
        self._stride = 1
        self.num_asked = 0
        self.rows = array("q")  # 40 bytes a query, and nothing for the garbage collector
        self.kept: list[tuple[int, Any]] = []
        self.failures: list[str] = []
        self.under_way: tuple[int, int, int] | None = None  # query, sent, lag

    def connect(self, warmup: int) -> None:
        """Open the connection and call without counting.

        Args:
            warmup: Calls.
        """
        self._call = self._target.connect()
        for query in range(warmup):
            self._call(self._order[query % len(self._order)])

    @property
    def done_ns(self) -> int:
        """When the last call ended."""
        return self.rows[-3]

    def ask(self, query: int, *, able_ns: int | None = None) -> bool:
        """Send one query and wait for its end.

        Args:
            query: Its number.
            able_ns: The earliest time at which it could have been sent; None for now.

        Returns:
            Whether there was an answer.
        """
        sample = self._order[query % len(self._order)]
        now = self._clock.now_ns
        sent_ns = now()
        lag_ns = 0 if able_ns is None else sent_ns - able_ns
        self.under_way = (query, sent_ns, lag_ns)
        try:
            answer = self._call(sample)
        except Exception as exc:  # whatever a target raises is an outcome of its query
            done_ns, outcome = now(), outcome_of(exc)
            if len(self.failures) < _MAX_FAILURES:
                self.failures.append(f"{type(exc).__name__}: {' '.join(str(exc).split())}"[:300])
        else:
            done_ns, outcome = now(), Outcome.OK
            if self._keeps and self.num_asked % self._stride == 0:
                self._keep(sample, answer)
        self.rows.extend((query, sent_ns, done_ns, lag_ns, outcome))
        self.num_asked += 1
        self.under_way = None
        return outcome is Outcome.OK

    def _keep(self, sample: int, answer: Any) -> None:
        self.kept.append((sample, answer))
        if len(self.kept) > self._max_kept:
            del self.kept[::2]
            self._stride *= 2


def outcome_of(error: Exception) -> Outcome:
    """Say what an exception of a target means for its query."""
    if isinstance(error, RequestRefusedError | ServerOverloadedError):
        return Outcome.REFUSED
    return Outcome.TIMEOUT if isinstance(error, TimeoutError) else Outcome.ERROR
