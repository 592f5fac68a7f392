"""A training's freed memory is used again, and given back at the end."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from edgeml.training.allocator import freed_memory_kept

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; elsewhere nothing is changed"
)

_PAGES = (40 << 20) // resource.getpagesize()


def _faults() -> int:
    """Return the page faults of a tensor of 40 MB, after others that were freed.

    Several: aligned blocks leave small pieces, and the first ones stay in glibc's thread cache.
    """
    for _ in range(12):
        torch.ones(10 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_inside_a_freed_tensor_is_used_again() -> None:
    with freed_memory_kept({}) as changed:
        assert changed
        assert _faults() < _PAGES // 10


def test_afterwards_large_tensors_go_back_to_the_system() -> None:
    with freed_memory_kept({}):
        _faults()
    assert _faults() > _PAGES // 2


def test_an_error_inside_ends_it_as_well() -> None:
    with pytest.raises(ZeroDivisionError), freed_memory_kept({}):
        _ = 1 / 0
    assert _faults() > _PAGES // 2


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}],
)
def test_what_the_environment_says_stays(environment: dict[str, str]) -> None:
    with freed_memory_kept(environment) as changed:
        assert not changed
        assert _faults() > _PAGES // 2
