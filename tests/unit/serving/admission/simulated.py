"""A server that is modelled, and clients with a real line and limit before it: discrete events."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.serving.admission.aimd import TIMED, AdaptiveLimit, Ending
from edgeml.serving.admission.line import Line, State, Ticket

_WAY_S = 0.0005


@dataclass(kw_only=True)
class Client:
    """One program with a limit of its own, and what came of its calls."""

    limit: AdaptiveLimit
    line: Line
    answered: list[float] = field(default_factory=list)
    missed: int = 0
    refused_at_once: int = 0
    refused_later: list[float] = field(default_factory=list)
    most_under_way: int = 0


@dataclass(kw_only=True)
class Overload:
    """Poisson arrivals at a server that runs batches one at a time; it drops who has hung up."""

    service_s: float = 0.008
    times: float = 3.0
    deadline_s: float = 0.1
    seconds: float = 10.0
    batch: int = 1
    jitter: float = 0.1
    slow_share: float = 0.5
    clients: int = 1
    seed: int = 0

    def run(self) -> list[Client]:
        self._rng = np.random.default_rng(self.seed)
        self._events: list[tuple[float, int, str, Any]] = []
        self._number = itertools.count()
        self._queue: list[tuple[Client, Ticket]] = []
        self._busy = False
        made = [self._client() for _ in range(self.clients)]
        now_s = 0.0
        for client in itertools.cycle(made):
            now_s += self._rng.exponential(self.service_s / self.times)
            if now_s > self.seconds:
                break
            self._at(now_s, "arrive", client)
        while self._events:
            now_s, _, kind, subject = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(now_s, subject)
        for client in made:
            assert client.line.under_way == 0
            assert client.line.waiting == 0
        return made

    def _client(self) -> Client:
        limit = AdaptiveLimit(initial=4, ceiling=64, backoff=0.9)
        return Client(limit=limit, line=Line(lambda: limit.value))

    def _at(self, time_s: float, kind: str, subject: Any) -> None:
        heapq.heappush(self._events, (time_s, next(self._number), kind, subject))

    def _arrive(self, now_s: float, client: Client) -> None:
        ticket, _ = client.line.arrive(now_s, rank=0, end_s=now_s + self.deadline_s)
        if ticket.state is State.REFUSED:
            client.refused_at_once += 1
        elif ticket.state is State.WAITING:
            self._at(client.line.start_by_s(ticket), "patience", (client, ticket))
        self._settle(now_s, client, [ticket])

    def _settle(self, now_s: float, client: Client, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if ticket.state is State.STARTED:
                self._at(now_s + _WAY_S, "queue_up", (client, ticket))
                self._at(ticket.end_s, "timeout", (client, ticket))
        client.most_under_way = max(client.most_under_way, client.line.under_way)

    def _patience(self, now_s: float, subject: tuple[Client, Ticket]) -> None:
        client, ticket = subject
        if ticket.state is State.WAITING:
            client.line.give_up(ticket, now_s)
            client.refused_later.append(now_s - ticket.arrived_s)

    def _queue_up(self, now_s: float, subject: tuple[Client, Ticket]) -> None:
        self._queue.append(subject)
        self._serve(now_s)

    def _serve(self, now_s: float) -> None:
        if self._queue and not self._busy:
            self._busy = True
            batch, self._queue = self._queue[: self.batch], self._queue[self.batch :]
            takes_s = self.service_s * len(batch) * max(0.2, self._rng.normal(1, self.jitter))
            self._at(now_s + takes_s, "served", batch)

    def _served(self, now_s: float, batch: list[tuple[Client, Ticket]]) -> None:
        self._busy = False
        for subject in batch:
            self._at(now_s + _WAY_S, "answer", subject)
        self._serve(now_s)

    def _answer(self, now_s: float, subject: tuple[Client, Ticket]) -> None:
        client, ticket = subject
        if ticket.state is State.STARTED:
            client.answered.append(now_s - ticket.arrived_s)
            self._end(now_s, client, ticket, "answered")

    def _timeout(self, now_s: float, subject: tuple[Client, Ticket]) -> None:
        client, ticket = subject
        if ticket.state is State.STARTED:
            client.missed += 1
            self._queue = [other for other in self._queue if other[1] is not ticket]
            self._end(now_s, client, ticket, "timeout")

    def _end(self, now_s: float, client: Client, ticket: Ticket, ending: Ending) -> None:
        client.limit.learn(
            ticket,
            ending,
            now_s=now_s,
            under_way=client.line.under_way,
            slow_share=self.slow_share,
        )
        changed = client.line.end(ticket, now_s, counts=ending in TIMED)
        client.refused_later += [
            now_s - other.arrived_s for other in changed if other.state is State.REFUSED
        ]
        self._settle(now_s, client, changed)
