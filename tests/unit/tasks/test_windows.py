"""Several windows in work at once, given back in their order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from edgeml.tasks.windows import in_order, windows_of


def test_the_order_is_that_of_the_windows_not_of_the_work() -> None:
    def work(window: Sequence[int], start: int) -> tuple[int, int]:
        time.sleep(0.02 if start % 2 == 0 else 0)
        return start, sum(window)

    windows = [[number] for number in range(20)]
    assert list(in_order(windows, work, 4)) == [(number, number) for number in range(20)]


def test_what_the_work_raises_comes_in_its_turn_and_ends_it() -> None:
    done: list[int] = []

    def work(window: Sequence[int], start: int) -> int:
        if start == 2:
            raise ValueError("two")
        done.append(start)
        return start

    stream = in_order([[number] for number in range(1000)], work, 2)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)
    assert max(done) < 10


def test_closing_ends_the_work_and_its_threads() -> None:
    started: list[int] = []

    def work(window: Sequence[int], start: int) -> int:
        started.append(start)
        time.sleep(0.01)
        return start

    before = threading.active_count()
    stream = in_order(([number] for number in range(1000)), work, 2)
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(started) <= 3


def test_an_interrupt_leaves_what_waits_for_a_thread_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []
    asked, go_on = threading.Event(), threading.Event()
    result = Future.result

    def asked_for(future: Future[Any], timeout: float | None = None) -> Any:
        asked.set()
        return result(future, timeout)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *arguments: Any, **options: Any) -> None:
            go_on.set()
            super().shutdown(*arguments, **options)

    def work(window: Sequence[int], start: int) -> None:
        started.append(start)
        if start == 0:
            asked.wait(20)  # by now the next window waits for this thread
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        go_on.wait(20)  # until the interrupt was seen, and the pool waits for what is under way

    monkeypatch.setattr(Future, "result", asked_for)
    monkeypatch.setattr("edgeml.tasks.windows.ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        list(in_order(([number] for number in range(1000)), work, 1))
    assert started == [0]


@pytest.mark.parametrize(("count", "lengths"), [
    (0, []), (1, [1]), (2, [1, 1]), (5, [3, 2]), (8, [4, 4]), (9, [4, 4, 1]), (16, [4, 4, 4, 4]),
])  # fmt: skip
def test_a_short_stream_is_shared_by_the_threads(count: int, lengths: list[int]) -> None:
    windows = list(windows_of(iter(range(count)), 4, 2))
    assert [len(window) for window in windows] == lengths
    assert [item for window in windows for item in window] == list(range(count))
