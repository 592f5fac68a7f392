"""A process that is stopped, all of it, for as long as a test wants."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on at the end.

    The signal only asks: on a busy machine a thread can still answer a request or two after it, so
    this waits until none of them runs.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        _wait_until_still(pid)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have been ended in between
            os.kill(pid, signal.SIGCONT)


def _wait_until_still(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
            return
        time.sleep(0.001)
    raise TimeoutError(f"process {pid} still runs 10 s after it was told to stop")


def _state(task: Path) -> str:
    """Return one letter, as proc(5) has it; the name before it may hold brackets and spaces."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return "T"
