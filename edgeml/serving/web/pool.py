"""A few threads behind a bounded queue: what does not fit is refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeml.serving.web.refusals import UNAVAILABLE, RefusedError

_T = TypeVar("_T")


class InferencePool:
    """Runs calls in threads of its own. Used from one event loop.

    Args:
        workers: Calls under way at once.
        waiting: Calls that may wait for one of them.
    """

    def __init__(self, *, workers: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="inference")
        self._places = workers + waiting
        self._taken = 0

    def check_place(self) -> None:
        """Refuse where all places are taken.

        Raises:
            RefusedError: The queue is full.
        """
        if self._taken >= self._places:
            raise RefusedError(
                f"the queue of {self._places} requests is full; a free place was expected; "
                "send the request again later",
                status=UNAVAILABLE,
            )

    async def run(self, call: Callable[[], _T]) -> tuple[_T, float]:
        """Run a call in a thread.

        Returns:
            What it returned, and the seconds that it waited.

        Raises:
            RefusedError: The queue is full.
        """
        self.check_place()
        loop = asyncio.get_running_loop()
        arrived = time.perf_counter()

        def timed() -> tuple[_T, float]:
            waited_s = time.perf_counter() - arrived
            return call(), waited_s

        future = self._executor.submit(timed)
        self._taken += 1
        # A place is free when the work is over, also where its sender has left before.
        future.add_done_callback(lambda _: self._free(loop))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the calls under way finish, and forget those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _free(self, loop: asyncio.AbstractEventLoop) -> None:
        def free() -> None:
            self._taken -= 1

        if not loop.is_closed():
            loop.call_soon_threadsafe(free)
