"""A race of two answers: the second runner starts late, the first answer wins."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from edgeml.errors import ClosedError

Answer = TypeVar("Answer")
Runner = Literal["server", "edge"]


@dataclass(frozen=True, kw_only=True)
class Finish(Generic[Answer]):
    """How one runner came in.

    Attributes:
        runner: Who.
        answer: What it answered; without meaning where there is an error.
        error: What it raised instead, or None.
        hedged: Whether both ran.
    """

    runner: Runner
    answer: Answer | None = None
    error: Exception | None = None
    hedged: bool = False


class Hedger:
    """Runs races in threads of its own.

    A runner that lost is not interrupted: the server's ends by its deadline, the edge's when it has
    computed.

    Args:
        num_races: Races at once; :meth:`race` refuses more.
    """

    def __init__(self, num_races: int) -> None:
        self._free = threading.Semaphore(num_races)
        self._pool = ThreadPoolExecutor(
            max_workers=2 * num_races, thread_name_prefix="edgeml-hedge"
        )

    def race(
        self, server: Callable[[], Answer], edge: Callable[[], Answer], *, after_s: float
    ) -> Finish[Answer] | None:
        """Ask the server, after a time the edge as well, and return the first answer.

        Args:
            server: Asks the server; it must end by itself.
            edge: Asks the edge.
            after_s: Seconds that the server has for itself.

        Returns:
            The first answer; where there is none, how the one who ended last failed. Only the
            server ran, and failed before the edge's turn: that failure. None where too many races
            are under way.
        """
        if not self._free.acquire(blocking=False):
            return None
        line: queue.SimpleQueue[Finish[Answer]] = queue.SimpleQueue()
        left = [1]
        lock = threading.Lock()

        def run(runner: Runner, ask: Callable[[], Answer]) -> None:
            try:
                finish = Finish(runner=runner, answer=ask())
            except Exception as exc:  # it is raised again in the caller's thread
                finish = Finish(runner=runner, error=exc)
            line.put(finish)
            with lock:
                left[0] -= 1
                over = left[0] == 0
            if over:
                self._free.release()

        self._start(run, "server", server)
        try:
            return line.get(timeout=after_s)
        except queue.Empty:
            with lock:
                alone = left[0] == 0
                left[0] += 0 if alone else 1
        if alone:  # it came in between the end of the wait and now
            return line.get()
        self._start(run, "edge", edge)
        first = line.get()
        last = first if first.error is None else line.get()
        best = first if first.error is None else last
        return Finish(runner=best.runner, answer=best.answer, error=best.error, hedged=True)

    def _start(
        self,
        run: Callable[[Runner, Callable[[], Answer]], None],
        runner: Runner,
        ask: Callable[[], Answer],
    ) -> None:
        """Run in a thread that knows the caller's deadline."""
        try:
            self._pool.submit(contextvars.copy_context().run, run, runner, ask)
        except RuntimeError as exc:  # closed meanwhile
            raise ClosedError from exc

    def close(self) -> None:
        """Start no more races; those under way end."""
        self._pool.shutdown(wait=True, cancel_futures=False)
