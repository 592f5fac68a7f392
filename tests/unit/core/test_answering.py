"""A question that may not be answered is waited for so long and no longer."""

from __future__ import annotations

import threading
import time

import pytest

from edgeml.core.answering import answer_within


def test_an_answer_and_an_error_come_through() -> None:
    assert answer_within(5.0, lambda: 3) == 3
    with pytest.raises(KeyError):
        answer_within(5.0, lambda: {}["a"])


def test_a_question_that_hangs_is_left_behind() -> None:
    """As the look-up of a host's name may, which knows no time limit."""
    released = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        answer_within(0.1, lambda: released.wait(30))
    waited = time.monotonic() - began
    released.set()
    assert waited < 5
