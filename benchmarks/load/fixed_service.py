"""A model of a server whose every query takes the same time, one at a time, in order of arrival.

Two load generators that ask the same model at the same times must find the same response times.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from edgeml.bench.targets import CallTarget


class FixedService:
    """One server behind a queue, in this process.

    Each query ends a fixed time after it arrived or the one before it ended: a thread that wakes up
    late delays one answer and never the queue behind it, so that two generators ask the same model.

    Args:
        service_ms: What each query takes.
    """

    def __init__(self, *, service_ms: float) -> None:
        self._service_s = service_ms / 1e3
        self._waiting: queue.SimpleQueue[tuple[float, Callable[[], None]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, done: Callable[[], None]) -> None:
        """Put a query into the queue; the function is called when it was served."""
        self._waiting.put((time.perf_counter(), done))

    def ask(self, _sample: int) -> None:
        """Put a query into the queue and wait."""
        waiting = threading.Lock()
        waiting.acquire()
        self.submit(waiting.release)
        waiting.acquire()

    def _serve(self) -> None:
        free_at = 0.0
        while True:
            arrived, done = self._waiting.get()
            free_at = max(arrived, free_at) + self._service_s
            time.sleep(max(0.0, free_at - time.perf_counter()))
            done()


def fixed_target(*, service_ms: float) -> CallTarget:
    """Return the model as a target of the load engine."""
    return CallTarget(FixedService(service_ms=service_ms).ask)
