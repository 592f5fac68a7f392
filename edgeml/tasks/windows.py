"""A stream in windows, several of them in work at once, given back in their order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

R = TypeVar("R")


def windows_of(items: Iterator[Any], size: int, threads: int) -> Iterator[list[Any]]:
    """Cut a stream into windows; a short one into at most as many as there are threads.

    Args:
        items: Read as far as the next window; the first time, as far as one window a thread.
        size: Most items of a window.
        threads: How many windows are worked at.

    Yields:
        Items in their order; no window is empty.

    Example:
        >>> list(windows_of(iter(range(5)), 4, 2))
        [[0, 1, 2], [3, 4]]
        >>> [len(window) for window in windows_of(iter(range(11)), 4, 2)]
        [4, 4, 3]
    """
    first = list(itertools.islice(items, size * threads))
    share = min(size, -(-len(first) // threads))
    for start in range(0, len(first), share or 1):
        yield first[start : start + share]
    del first  # pictures may be large
    while window := list(itertools.islice(items, size)):
        yield window


def in_order(
    windows: Iterable[Sequence[Any]], work: Callable[[Sequence[Any], int], R], threads: int
) -> Iterator[R]:
    """Work at several windows at once.

    Args:
        windows: Taken by the caller's thread, one more than there are threads ahead of it.
        work: Called in a thread with a window and the number of items before it.
        threads: How many.

    Yields:
        What ``work`` returned, in the order of the windows; what it raised is raised in its turn.
    """
    waiting: deque[Future[R]] = deque()
    start = 0
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for window in windows:
                waiting.append(pool.submit(work, window, start))
                start += len(window)
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
