"""Starts, stops and time: what a server leaves behind, and whether its memory grows."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.robustness.neighbours import Neighbours, known_answers
from benchmarks.robustness.subjects import Subject
from edgeml.serving.host.processes import processes_naming
from edgeml.serving.server.prechecks import SHARED_MEMORY
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of

# Caches and pools fill first; what grows after this share of the time counts.
_SETTLED = 0.25
_PAUSE_S = 0.02  # two callers at full speed would measure the machine's patience
Say = Callable[[str], None]


def cycles(
    repository: Path, subjects: Sequence[Subject], *, count: int, say: Say = lambda _: None
) -> dict[str, Any]:
    """Start a server, ask every model once, stop it, and look at what is left; many times.

    Returns:
        Seconds of each start and stop, our own resident memory after each in KiB, and what was
        left of any cycle: processes, ports that are still taken, segments of shared memory.
    """
    known, left = None, []
    starts, stops, resident = [], [], []
    for number in range(count):
        started = time.monotonic()
        with start_triton(repository, supervised=True) as server:
            ready = time.monotonic()
            known = known_answers(server.grpc, subjects)
            leaving = time.monotonic()
        starts.append(round(ready - started, 2))
        stops.append(round(time.monotonic() - leaving, 2))
        resident.append(resident_kib("self"))
        left += [f"cycle {number}: {what}" for what in left_of(server)]
        say(f"cycle {number}: started in {starts[-1]} s, stopped in {stops[-1]} s")
    assert known
    return {"cycles": count, "start_s": starts, "stop_s": stops, "own_kib": resident, "left": left}


def soak(
    repository: Path,
    subjects: Sequence[Subject],
    *,
    seconds: float,
    every_s: float = 1.0,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Call every model for a while, as two callers, and measure the processes' memory.

    Returns:
        Answers by kind, and by process (server, each model's stub, this one) resident memory in KiB
        at the start and the end and its slope per minute after the first quarter, with its standard
        error; and what was left after the stop.
    """
    samples: dict[str, list[tuple[float, int]]] = {}
    with start_triton(repository, supervised=True) as server:
        known = known_answers(server.grpc, subjects)
        callers = Neighbours(server.grpc, subjects, known, pause_s=_PAUSE_S)
        started = time.monotonic()
        try:
            while (passed := time.monotonic() - started) < seconds:
                for name, pid in _watched(server).items():
                    samples.setdefault(name, []).append((passed, resident_kib(pid)))
                time.sleep(every_s)
                if int(passed) % 60 == 0:
                    say(f"{passed:.0f} s, {callers.counts['right']} answers")
        finally:
            callers.stop()
        seen = server.supervision
    assert seen is not None
    return {
        "seconds": seconds,
        "answers": dict(callers.counts),
        "faults": callers.faults[:20],
        "restarts": seen.restarts,
        "cures": seen.cures,
        "memory": {name: trend(rows) for name, rows in samples.items()},
        "left": left_of(server),
    }


def trend(rows: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Return first, last and largest memory in KiB, and the slope once it has settled.

    Args:
        rows: Seconds and KiB.

    Returns:
        ``kib_per_min`` is the least-squares slope over the last three quarters, ``error`` its
        standard error from the means of ten parts, since neighbouring samples are alike.
    """
    times, values = np.array(rows, dtype=np.float64).T
    settled = times >= _SETTLED * times[-1]
    found = {"first_kib": values[0], "last_kib": values[-1], "most_kib": values.max()}
    minutes, kept = times[settled] / 60, values[settled]
    parts = [(m.mean(), v.mean()) for m, v in zip(*_parts(minutes, kept), strict=True)]
    if len(parts) >= 3:
        xs, ys = np.array(parts).T
        slope, start = np.polyfit(xs, ys, 1)
        rest = ys - slope * xs - start
        error = np.sqrt((rest**2).sum() / (len(xs) - 2) / ((xs - xs.mean()) ** 2).sum())
        found |= {"kib_per_min": slope, "error": error}
    return {name: round(float(value), 1) for name, value in found.items()}


def _parts(minutes: Any, values: Any) -> tuple[list[Any], list[Any]]:
    count = min(10, len(minutes))
    return np.array_split(minutes, count), np.array_split(values, count)


def left_of(server: TritonServer) -> list[str]:
    """Return what is left of a server that was stopped, in words."""
    found = [f"process {mark.pid}" for mark in processes_naming(server.token)]
    found += [f"segment {path.name}" for path in SHARED_MEMORY.glob(f"{server.token}*")]
    for url in (server.http, server.control, server.grpc, server.metrics):
        port = urlsplit(url).port
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            found.append(f"port {port}")
    return found


def resident_kib(pid: int | str) -> int:
    """Return the resident memory of a process, shared memory included; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields.get("VmRSS", "0").split()[0])


def _watched(server: TritonServer) -> dict[str, int | str]:
    found: dict[str, int | str] = {"server": server.pid, "this process": "self"}
    for model, marks in stubs_of(server.token).items():
        found[f"stub of {model}"] = marks[0].pid
    return found
