"""Measures what a training's memory does, in a process of its own, and prints it as JSON.

In a process of its own, because glibc gives back less where the thread has left the main arena, as
any thread does for good once a request of it was refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from edgeml.training.allocator import freed_memory_kept

LARGE, LARGER = 40 << 20, 120 << 20
_NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE of prctl(2)


def measure() -> dict[str, object]:
    """Return what is kept, given back and used again, in bytes."""
    cleared_before = _cleared_by_a_use()
    with freed_memory_kept({}) as changed:
        cleared = _cleared_by_a_use()
        with freed_memory_kept({}):
            pass
        cleared_after_another = _cleared_by_a_use()
        inside = _resident()
    rows = {
        "changed": changed,
        "cleared_before": cleared_before,
        "cleared": cleared,
        "cleared_after_another": cleared_after_another,
        "given_back": inside - _resident(),
    }
    rows["kept_afterwards"] = _kept_of_a_use()
    with contextlib.suppress(KeyboardInterrupt), freed_memory_kept({}):
        _use(LARGE)
        raise KeyboardInterrupt
    return rows | {"kept_after_failure": _kept_of_a_use()}


def measure_under(environment: Mapping[str, str]) -> dict[str, object]:
    """Return whether anything is changed under ``environment``, and the bytes then kept."""
    with freed_memory_kept(environment) as changed:
        return {"changed": changed, "kept": _kept_of_a_use()}


def _use(size: int) -> None:
    """Allocate, fill and free a tensor of ``size`` bytes."""
    torch.ones(size // 4)


def _use_often(size: int) -> None:
    """Aligned blocks leave small pieces, and the first ones stay in glibc's thread cache."""
    for _ in range(12):
        _use(size)


def _cleared_by_a_use() -> int:
    """Return the memory that the kernel had to clear."""
    _use_often(LARGE)
    before = _faults()
    _use(LARGE)
    return (_faults() - before) * resource.getpagesize()


def _kept_of_a_use() -> int:
    before = _resident()
    _use(LARGER)
    return _resident() - before


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(
        _NO_HUGE_PAGES, 1, 0, 0, 0
    )  # faults are counted: each is to be of one page
    settled = ({"MALLOC_ARENA_MAX": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})
    sys.stdout.write(json.dumps(measure() | {"settled": [measure_under(row) for row in settled]}))
