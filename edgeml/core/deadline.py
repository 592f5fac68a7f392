"""A caller's deadline: whatever is called inside must answer until then, or say that it did not.

It is kept in a context variable, so threads and coroutines have their own.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar

from edgeml.errors import InputError

_END: ContextVar[float] = ContextVar("edgeml_deadline", default=math.inf)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let calls to a server inside the block take so long together, and no longer.

    A block inside another can only shorten the time. Predictors that run in this process are not
    interrupted.

    Args:
        seconds: From now; positive.

    Raises:
        InputError: The time is none.

    Example:
        >>> with deadline(0.2):
        ...     0.0 < remaining_s() <= 0.2
        True
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"the deadline is {seconds:g} s; a positive, finite time was expected")
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def remaining_s() -> float:
    """Return the seconds that are left, at least 0; infinity where there is no deadline."""
    end = _END.get()
    return math.inf if end == math.inf else max(0.0, end - time.monotonic())
