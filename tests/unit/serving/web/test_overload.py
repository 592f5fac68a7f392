"""An app that is asked too much: deadlines and priorities from two headers that others defined."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edgeml.serving.web.limits import WebLimits
from edgeml.serving.web.refusals import RefusedError
from edgeml.serving.web.wishes import Wishes, read_wishes
from tests.unit.serving.web.conftest import Client, Reply
from tests.unit.serving.web.test_app import Held, serve_held


@pytest.mark.parametrize(
    ("headers", "within_s", "priority"),
    [
        ({}, math.inf, "normal"),
        ({"grpc-timeout": "100m"}, 0.1, "normal"),
        ({"grpc-timeout": "2S"}, 2.0, "normal"),
        ({"grpc-timeout": "1500u"}, 0.0015, "normal"),
        ({"priority": "u=0"}, math.inf, "high"),
        ({"priority": "u=2, i"}, math.inf, "high"),
        ({"priority": "i, u=3"}, math.inf, "normal"),
        ({"priority": "u=5;x=1"}, math.inf, "low"),
        ({"priority": "u=9"}, math.inf, "normal"),
        ({"priority": "urgent"}, math.inf, "normal"),
    ],
)
def test_what_headers_say(headers: dict[str, str], within_s: float, priority: str) -> None:
    wishes = read_wishes(headers)
    assert wishes.within_s == pytest.approx(within_s)
    assert wishes.priority == priority


@pytest.mark.parametrize(
    "value", ["", "100", "m", "0m", "-1S", "1.5S", "123456789m", "1x", "1S, 2S"]
)
def test_a_timeout_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(RefusedError, match="as 100m for 100 ms") as caught:
        read_wishes({"grpc-timeout": value})
    assert caught.value.status == 400


def test_a_request_says_so_over_http(busy: tuple[Held, Client]) -> None:
    held, client = busy
    reply = client(value={"text": "a"}, headers={"grpc-timeout": "soon"})
    assert (reply.status, "grpc-timeout is 'soon'" in reply.error) == (400, True)
    held.go.set()


@pytest.fixture
def busy() -> Iterator[tuple[Held, Client]]:
    """An app whose one worker is held until the test lets it go."""
    held = Held()
    with serve_held(held, WebLimits(workers=1, waiting=2)) as server:
        yield held, Client(server.url)
        held.go.set()


class Senders:
    """Requests under way."""

    def __init__(self, client: Client, threads: ThreadPoolExecutor) -> None:
        self._client = client
        self._threads = threads

    def send(self, text: str, **headers: str) -> Future[Reply]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self._threads.submit(self._client, value={"text": text}, headers=named)
        time.sleep(0.1)  # it is in the line before the next one comes
        return sent


def test_a_request_does_not_wait_past_its_deadline(busy: tuple[Held, Client]) -> None:
    held, client = busy
    with ThreadPoolExecutor(2) as threads:
        senders = Senders(client, threads)
        first = senders.send("a")
        assert held.entered.acquire(timeout=10)
        begun = time.monotonic()
        late = client(value={"text": "b"}, headers={"grpc-timeout": "150m"})
        assert 0.1 < time.monotonic() - begun < 5
        assert late.status == 503
        assert "150 ms were allowed" in late.error
        assert late.headers["retry-after"] == "1"
        held.go.set()
        assert first.result().status == 200
    assert client(value={"text": "c"}, headers={"grpc-timeout": "5S"}).body["label"] == "c"


def test_the_more_urgent_goes_first_and_takes_a_place_of_the_less_urgent(
    busy: tuple[Held, Client],
) -> None:
    held, client = busy
    with ThreadPoolExecutor(5) as threads:
        senders = Senders(client, threads)
        first = senders.send("first")
        assert held.entered.acquire(timeout=10)
        low, normal = senders.send("low", priority="u=6"), senders.send("normal")
        high = senders.send("high", priority="u=0")
        shed = low.result(timeout=10)
        assert (shed.status, "higher priority" in shed.error) == (503, True)
        full = client(value={"text": "another"})
        assert (full.status, "is full" in full.error) == (503, True)
        held.go.set()
        assert {row.result().status for row in (first, normal, high)} == {200}
    timing = [row.result().headers["server-timing"] for row in (high, normal)]
    assert len(timing) == 2


def test_a_request_that_cannot_make_it_is_refused_at_once(busy: tuple[Held, Client]) -> None:
    held, client = busy
    with ThreadPoolExecutor(2) as threads:
        senders = Senders(client, threads)
        slow = senders.send("slow")
        assert held.entered.acquire(timeout=10)
        time.sleep(0.4)
        held.go.set()
        assert slow.result().status == 200
        held.go.clear()
        running = senders.send("running")
        assert held.entered.acquire(timeout=10)
        begun = time.monotonic()
        late = client(value={"text": "late"}, headers={"grpc-timeout": "800m"})
        assert time.monotonic() - begun < 0.4  # it would have needed two times half a second
        assert (late.status, "0 requests wait before it" in late.error) == (503, True)
        held.go.set()
        assert running.result().status == 200


def test_wishes_have_ranks() -> None:
    ranks = [Wishes(priority=name).rank for name in ("high", "normal", "low")]  # type: ignore[arg-type]
    assert ranks == [0, 1, 2]
