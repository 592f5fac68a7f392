"""A training's freed memory is used again, and given back at the end."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from edgeml.training.allocator import freed_memory_kept

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; elsewhere nothing is changed"
)

_LARGE, _LARGER = 40 << 20, 120 << 20


def _use(size: int) -> int:
    """Allocate, fill and free a tensor of ``size`` bytes; return the page faults of that."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _warmed(size: int) -> int:
    """Return the page faults of a tensor after many of its size were freed.

    Many: aligned blocks leave small pieces, and the first ones stay in glibc's thread cache.
    """
    for _ in range(12):
        _use(size)
    return _use(size)


def test_inside_a_freed_tensor_is_used_again() -> None:
    with freed_memory_kept({}) as changed:
        assert changed
        assert _warmed(_LARGE) * resource.getpagesize() < _LARGE // 10


def test_at_the_end_the_memory_goes_back() -> None:
    with freed_memory_kept({}):
        _warmed(_LARGE)
        inside = _resident()
    assert _resident() < inside - _LARGE // 2


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_freed_tensors_go_back_at_once(fails: bool) -> None:
    try:
        with freed_memory_kept({}):
            _use(_LARGE)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    before = _resident()
    _use(_LARGER)
    assert _resident() < before + _LARGER // 2


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}],
)
def test_what_the_environment_says_stays(environment: dict[str, str]) -> None:
    with freed_memory_kept(environment) as changed:
        assert not changed
        before = _resident()
        _use(_LARGER)
        assert _resident() < before + _LARGER // 2
