"""Find processes and wait for their end, by process id and start time, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_KILLED_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ProcessMark:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: str


def processes_naming(token: str) -> list[ProcessMark]:
    """Return the running processes whose command line holds a token that nobody else can have.

    Args:
        token: A random text that was given to them when they were started.
    """
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and token in _command_line(path):
            mark = mark_of(int(path.name))
            if mark is not None:
                found.append(mark)
    return found


def mark_of(pid: int) -> ProcessMark | None:
    """Return the mark of the process that has this id now, or None."""
    fields = _stat(pid)
    return ProcessMark(pid=pid, started=fields[19]) if fields else None


def wait_until_gone(marks: list[ProcessMark], *, timeout_s: float) -> None:
    """Wait until these processes have ended, and kill those that have not after a while.

    Args:
        marks: Processes, as :func:`processes_naming` found them.
        timeout_s: Time that they are given.
    """
    deadline = time.monotonic() + timeout_s
    while (left := [mark for mark in marks if is_running(mark)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for mark in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(mark.pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILLED_S
    while any(is_running(mark) for mark in left) and time.monotonic() < deadline:
        time.sleep(0.005)


def words_of(mark: ProcessMark) -> list[str]:
    """Return the command line of a process, word by word; empty once it has ended."""
    return _command_line(Path("/proc", str(mark.pid))).split("\0")


def is_running(mark: ProcessMark) -> bool:
    """Return whether this very process is there and not merely waiting to be reaped."""
    fields = _stat(mark.pid)
    return bool(fields) and fields[19] == mark.started and fields[0] != "Z"


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on: state 0, parent 1, start time 19."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
