"""Memory of a training: glibc keeps what a step frees, so that the next one need not ask for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
from collections.abc import Iterator, Mapping

# Parameters of mallopt(3), as <malloc.h> numbers them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
# Where glibc's own moving thresholds end up on 64 bits in any process with such large tensors.
_AS_BEFORE = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))

_LOCK = threading.Lock()
_under_way: list[None] = []  # one for each training; the last one sets the allocator back


@contextlib.contextmanager
def freed_memory_kept(environment: Mapping[str, str] = os.environ) -> Iterator[bool]:
    """Let the allocator keep freed memory, and give it back at the end.

    Tensors above 32 MB are otherwise mapped and unmapped at each step, and the kernel clears their
    pages each time. Where ``MALLOC_...`` or ``GLIBC_TUNABLES`` say how to allocate, and
    where the C library is not glibc, nothing is changed. Of a thread outside glibc's main arena up
    to 64 MB stay.

    Args:
        environment: Of the process.

    Yields:
        Whether anything was changed.
    """
    if not _is_ours(environment):
        yield False
        return
    library = ctypes.CDLL(None)
    with _LOCK:
        _under_way.append(None)
        for parameter, value in _KEEP:
            library.mallopt(parameter, value)
    try:
        yield True
    finally:
        with _LOCK:
            _under_way.pop()
            for parameter, value in () if _under_way else _AS_BEFORE:
                library.mallopt(parameter, value)
        library.malloc_trim(0)


def _is_ours(environment: Mapping[str, str]) -> bool:
    settled = any(name.startswith("MALLOC_") for name in environment)
    settled = settled or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
    return not settled and platform.libc_ver()[0] == "glibc"
