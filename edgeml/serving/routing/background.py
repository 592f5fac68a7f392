"""Work beside the answers: a bounded queue and one thread, which never hold a caller up."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_END_S = 2.0


class Background:
    """Runs jobs one after the other in a thread of its own; a full queue refuses at once.

    Args:
        capacity: Jobs that may wait.
        name: Of the thread.
    """

    def __init__(self, *, capacity: int, name: str) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def offer(self, job: Callable[[], None]) -> bool:
        """Take a job and return True, or return False where there is no room or all is over."""
        if self._closed.is_set():
            return False
        if self._thread is None:
            self._start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def waiting(self) -> int:
        """Return how many jobs are not done yet."""
        return self._jobs.unfinished_tasks

    def close(self) -> None:
        """Drop the jobs that wait, and give the one that runs a moment; once is enough."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
                self._jobs.task_done()
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_END_S)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon: a program that ends does not wait for comparisons.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            job = self._jobs.get()
            try:
                if job is not None and not self._closed.is_set():
                    job()
            except Exception:
                # A bug of ours must not end the thread in silence.
                _LOG.exception("a comparison in the background failed")
            finally:
                self._jobs.task_done()
