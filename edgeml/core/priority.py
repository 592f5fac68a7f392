"""A caller's priority: whom a limit serves first, and whom it gives up first, under overload.

It is kept in a context variable, as the deadline is, so threads and coroutines have their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal, get_args

from edgeml.errors import InputError

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

_NOW: ContextVar[Priority] = ContextVar("edgeml_priority", default="normal")


@contextlib.contextmanager
def priority(level: Priority) -> Iterator[None]:
    """Give calls inside the block a priority.

    It matters where calls wait behind a limit (:func:`edgeml.with_limit`): those of higher priority
    go first, and those of lower priority are refused first. A block inside another decides.

    Args:
        level: ``high``, ``normal`` (what a call has otherwise) or ``low``.

    Raises:
        InputError: There is no such priority.

    Example:
        >>> with priority("low"):
        ...     current_priority()
        'low'
    """
    if level not in PRIORITIES:
        raise InputError(
            f"the priority is {level!r}; one of {', '.join(PRIORITIES)} was expected", got=level
        )
    token = _NOW.set(level)
    try:
        yield
    finally:
        _NOW.reset(token)


def current_priority() -> Priority:
    """Return the priority that calls have here."""
    return _NOW.get()


def level_of(level: Priority) -> int:
    """Return a priority as the number that servers know: 1 is the highest."""
    return PRIORITIES.index(level) + 1
