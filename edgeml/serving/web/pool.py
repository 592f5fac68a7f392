"""A few threads behind a bounded queue: what does not fit, or would come too late, is refused."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from edgeml.core.priority import PRIORITIES
from edgeml.serving.admission.line import FULL, SHED, Line, State, Ticket
from edgeml.serving.web.refusals import UNAVAILABLE, RefusedError
from edgeml.serving.web.wishes import Wishes

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
        self._line = Line(lambda: workers, ranks=len(PRIORITIES), room=waiting)
        self._turns: dict[Ticket, asyncio.Future[None]] = {}

    def check_place(self, wishes: Wishes | None = None) -> None:
        """Refuse where all places are taken.

        Args:
            wishes: Of the call that would come; a call of higher priority finds a place where a
                lower one waits.

        Raises:
            RefusedError: The queue is full.
        """
        rank = (wishes or Wishes()).rank
        taken = self._line.under_way + self._line.waiting
        if taken >= self._places and not self._line.waits_below(rank):
            raise self._full()

    async def run(
        self, call: Callable[[], _T], *, arrived_s: float, wishes: Wishes
    ) -> tuple[_T, float]:
        """Run a call in a thread, when it is its turn.

        Args:
            call: The call.
            arrived_s: When its request came, on ``time.monotonic``.
            wishes: By when it is wanted, and how much.

        Returns:
            What it returned, and the seconds that it waited.

        Raises:
            RefusedError: The queue is full, it cannot be answered by its deadline, or a call of
                higher priority took its place.
        """
        ticket = await self._turn(arrived_s, wishes)
        loop = asyncio.get_running_loop()
        submitted_s = time.monotonic()

        def timed() -> tuple[_T, float]:
            waited_s = time.monotonic() - submitted_s + ticket.waited_s
            return call(), waited_s

        future = self._executor.submit(timed)
        # A place is free when the work is over, also where its sender has left before.
        future.add_done_callback(lambda _: self._over(loop, ticket))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the calls under way finish, and forget those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _turn(self, arrived_s: float, wishes: Wishes) -> Ticket:
        now_s = time.monotonic()
        ticket, shed = self._line.arrive(now_s, rank=wishes.rank, end_s=arrived_s + wishes.within_s)
        self._call_up(shed)
        if ticket.state is State.WAITING:
            turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
            patience_s = self._line.start_by_s(ticket) - now_s
            try:
                async with asyncio.timeout(None if patience_s == math.inf else patience_s):
                    await turn
            except TimeoutError:
                self._line.give_up(ticket, time.monotonic())
            except asyncio.CancelledError:  # the sender has left
                self._leave(ticket)
                raise
            finally:
                self._turns.pop(ticket, None)
        if ticket.state is State.REFUSED:
            raise self._refusal(ticket, wishes)
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        self._line.give_up(ticket, time.monotonic())
        if ticket.state is State.STARTED:
            self._call_up(self._line.end(ticket, time.monotonic(), counts=False))

    def _over(self, loop: asyncio.AbstractEventLoop, ticket: Ticket) -> None:
        def free() -> None:
            self._call_up(self._line.end(ticket, time.monotonic(), counts=True))

        if not loop.is_closed():
            loop.call_soon_threadsafe(free)

    def _call_up(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            turn: asyncio.Future[Any] | None = self._turns.get(ticket)
            if turn is not None and not turn.done():
                turn.set_result(None)

    def _full(self) -> RefusedError:
        return RefusedError(
            f"the queue of {self._places} requests is full; a free place was expected; "
            "send the request again later",
            status=UNAVAILABLE,
        )

    def _refusal(self, ticket: Ticket, wishes: Wishes) -> RefusedError:
        if ticket.reason == FULL:
            return self._full()
        if ticket.reason == SHED:
            text = "requests of higher priority took its place; send it again later"
            return RefusedError(text, status=UNAVAILABLE)
        return RefusedError(
            f"{ticket.ahead} requests wait before it and an answer needs about "
            f"{1e3 * ticket.needed_s:.0f} ms; {1e3 * wishes.within_s:.0f} ms were allowed; send it "
            "again later, or with more time",
            status=UNAVAILABLE,
        )
