"""A question that may not be answered: asked in a thread, waited for so long and no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")

_GRACE_S = 0.5


def answer_within(timeout_s: float, ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns, or raise what it raises.

    The look-up of a host's name knows no time limit of its own: the thread is left behind then.

    Args:
        timeout_s: Seconds to wait, and half a second more.
        ask: Knows its own time limit, too, where it can.

    Raises:
        TimeoutError: It did neither in time.
    """
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as exc:  # it is raised again in the caller's thread
            answers.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s + _GRACE_S)
    answer = answers[0] if answers else TimeoutError(f"no answer within {timeout_s:g} s")
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[no-any-return]
