"""What the generator asks of Linux; elsewhere it does without."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29


def sharpen_timers() -> bool:
    """Have this thread, and those it starts, woken without the usual 50 us of slack.

    Returns:
        Whether the system does so.
    """
    return _control(_PR_SET_TIMERSLACK, 1)


def end_with_parent() -> bool:
    """Have this process killed when the one that started it ends.

    Returns:
        Whether the system does so.
    """
    return _control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _control(option: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
    except (OSError, AttributeError, TypeError):
        return False
