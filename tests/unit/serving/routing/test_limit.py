"""The limit around a predictor: who is let through, who is refused, and what moves it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

import edgeml
from edgeml.core.deadline import remaining_s
from edgeml.core.predictor import Prediction
from edgeml.errors import (
    InputError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.routing.limit import LimitRoute, LimitSettings
from edgeml.serving.routing.metrics import Metrics
from edgeml.serving.routing.routed import RoutedPredictor
from tests.unit.serving.routing.two_models import signature

_WAIT_S = 10.0
_LABELS = {"model": "parts", "part": ""}


class Asked:
    """A predictor whose answer to each call is a function of the test's."""

    served_by = "triton/cpu/int8/1"
    signature = signature()

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.under_way = self.most = self.calls = 0
        self.closed = False

    def predict(self, item: Any) -> Prediction:
        with self._lock:
            self.calls += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            self._answer(item)
            return Prediction(label=str(item), served_by=self.served_by)
        finally:
            with self._lock:
                self.under_way -= 1

    def predict_batch(self, items: Any, *, on_error: Any = "raise") -> Any:
        return [self.predict(item) for item in items]

    def predict_tensors(self, tensors: Any) -> Any:
        return [self.predict(tensors)]

    def run(self, tensors: Any) -> Any:
        return self.predict(tensors)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Clock:
    """Seconds that pass when they are told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


def _limited(member: Asked, *, clock: Any = time.monotonic, **facts: Any) -> Any:
    metrics = Metrics(model="parts")
    route = LimitRoute(
        member,
        settings=LimitSettings(**facts),
        metrics=metrics,
        clock=clock,
    )
    predictor = RoutedPredictor({"limited": member}, route=route, metrics=metrics)
    return predictor, route


def _count(predictor: RoutedPredictor, outcome: str, priority: str = "normal") -> float:
    labels = {"outcome": outcome, "priority": priority, **_LABELS}
    return predictor.metrics.registry.get_sample_value("edgeml_limit_calls_total", labels) or 0.0


def _gauge(predictor: RoutedPredictor, name: str) -> float:
    found = predictor.metrics.registry.get_sample_value(f"edgeml_limit_{name}", _LABELS)
    assert found is not None
    return found


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


class Gate:
    """Holds calls until each is let go, by its item."""

    def __init__(self) -> None:
        self._open: dict[Any, threading.Event] = {}
        self._lock = threading.Lock()
        self.begun: list[Any] = []

    def _event(self, item: Any) -> threading.Event:
        with self._lock:
            return self._open.setdefault(item, threading.Event())

    def __call__(self, item: Any) -> None:
        self.begun.append(item)
        assert self._event(item).wait(_WAIT_S)

    def let_go(self, item: Any) -> None:
        self._event(item).set()


class Callers:
    """Threads that ask, with what came of it."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self._threads: list[threading.Thread] = []
        self.ended: dict[Any, Any] = {}

    def ask(self, item: Any, *, priority: Any = "normal", left_s: float = _WAIT_S) -> None:
        def run() -> None:
            try:
                with edgeml.priority(priority), edgeml.deadline(left_s):
                    self.ended[item] = self._predictor.predict(item).label
            except Exception as exc:
                self.ended[item] = exc

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(_WAIT_S)
            assert not thread.is_alive()


@pytest.fixture
def gate() -> Iterator[Gate]:
    return Gate()


def test_calls_beyond_the_limit_wait_and_the_higher_priority_goes_first(gate: Gate) -> None:
    member = Asked(gate)
    predictor, _ = _limited(member, initial=1, ceiling=1, deadline_s=_WAIT_S)
    callers = Callers(predictor)
    callers.ask("first")
    _until(lambda: member.under_way == 1)
    for waiting, (item, level) in enumerate(
        (("low", "low"), ("normal", "normal"), ("high", "high"))
    ):
        callers.ask(item, priority=level)
        _until(lambda waiting=waiting: _gauge(predictor, "waiting") == waiting + 1)
    for item in ("first", "high", "normal", "low"):
        gate.let_go(item)
    callers.wait()
    assert gate.begun == ["first", "high", "normal", "low"]
    assert member.most == 1
    assert callers.ended == {item: item for item in gate.begun}
    assert _count(predictor, "answered", "high") == 1


def test_a_waiting_call_is_told_before_its_deadline_and_nothing_was_asked(gate: Gate) -> None:
    member = Asked(gate)
    predictor, _ = _limited(member, initial=1, ceiling=1, deadline_s=_WAIT_S)
    callers = Callers(predictor)
    callers.ask("first")
    _until(lambda: member.under_way == 1)
    begun = time.monotonic()
    with edgeml.deadline(0.05), pytest.raises(ServerOverloadedError) as caught:
        predictor.predict("late")
    assert 0.04 < time.monotonic() - begun < 5
    assert (caught.value.reason, caught.value.refused_by) == ("waited", "limit")
    assert "triton/cpu/int8/1: more calls than can be answered in time" in str(caught.value)
    gate.let_go("first")
    callers.wait()
    assert gate.begun == ["first"]
    assert (_count(predictor, "waited"), _gauge(predictor, "waiting")) == (1, 0)


def test_a_call_that_cannot_make_it_is_refused_at_once(gate: Gate) -> None:
    clock = Clock()
    member = Asked(lambda _: clock.passes(1.0))
    predictor, _ = _limited(member, initial=1, ceiling=1, deadline_s=60.0, clock=clock)
    predictor.predict("it takes a second")
    member._answer = gate
    callers = Callers(predictor)
    callers.ask("under way")
    _until(lambda: member.under_way == 1)
    with (
        edgeml.deadline(2.0),
        pytest.raises(ServerOverloadedError, match="0 wait before") as caught,
    ):
        predictor.predict("needs 2.25 seconds")
    assert caught.value.reason == "too-late"
    assert member.calls == 2
    gate.let_go("under way")
    callers.wait()


def test_lower_priority_is_shed_by_a_higher_one(gate: Gate) -> None:
    clock = Clock()
    member = Asked(lambda _: clock.passes(1.0))
    predictor, _ = _limited(member, initial=1, ceiling=1, deadline_s=60.0, clock=clock)
    predictor.predict("it takes a second")
    member._answer = gate
    callers = Callers(predictor)
    callers.ask("under way")
    _until(lambda: member.under_way == 1)
    callers.ask("low", priority="low", left_s=3.0)
    _until(lambda: _gauge(predictor, "waiting") == 1)
    callers.ask("high", priority="high", left_s=3.0)
    _until(lambda: "low" in callers.ended)
    assert callers.ended["low"].reason == "shed"
    assert "calls of higher priority came" in str(callers.ended["low"])
    for item in ("under way", "high"):
        gate.let_go(item)
    callers.wait()
    assert callers.ended["high"] == "high"
    assert (_count(predictor, "shed", "low"), _count(predictor, "answered", "high")) == (1, 1)


def _timed(clock: Clock, seconds: float, error: Exception | None = None) -> Callable[[Any], None]:
    def answer(_: Any) -> None:
        clock.passes(seconds)
        if error is not None:
            raise error

    return answer


def test_the_limit_grows_with_good_answers_and_is_lowered_by_signs_of_overload() -> None:
    clock = Clock()
    member = Asked(_timed(clock, 0.1))
    predictor, route = _limited(member, initial=1, ceiling=8, deadline_s=1.0, clock=clock)
    for _ in range(3):
        predictor.predict(0)
    assert route.concurrency == 2  # one call at a time uses two places half, and no more
    url = "grpc://a:1"
    signs = {
        "slow": _timed(clock, 0.6),
        "late": _timed(clock, 1.5),
        "timeout": _timed(clock, 1.0, ServerTimeoutError(url=url, timeout_s=1.0)),
        "overloaded": _timed(
            clock, 0.0, ServerOverloadedError("full", url=url, reason="queue-full")
        ),
    }
    for reason, answer in signs.items():
        member._answer = _timed(clock, 0.1)
        while route.concurrency < 2:
            predictor.predict(0)
        member._answer = answer
        for _ in range(12):
            clock.passes(0.001)
            with contextlib.suppress(ServerTimeoutError, ServerOverloadedError):
                predictor.predict(0)
        assert route.concurrency == 1, reason
        labels = {"reason": reason, **_LABELS}
        cuts = predictor.metrics.registry.get_sample_value("edgeml_limit_cuts_total", labels)
        assert cuts is not None
        assert cuts > 0
    assert _count(predictor, "late") == 12
    assert _count(predictor, "timeout") == 12
    assert _count(predictor, "overloaded") == 12


@pytest.mark.parametrize(
    "error", [InputError("no picture"), ServerUnreachableError("gone", url="grpc://a:1")]
)
def test_what_says_nothing_of_load_leaves_the_limit_alone(error: Exception) -> None:
    clock = Clock()
    member = Asked(_timed(clock, 0.9, error))
    predictor, route = _limited(member, initial=2, deadline_s=1.0, clock=clock)
    for _ in range(20):
        with pytest.raises(type(error)):
            predictor.predict(0)
    assert route.concurrency == 2
    assert _gauge(predictor, "under_way") == 0
    assert _count(predictor, "failed") == 20


@pytest.mark.parametrize("takes_s", [0.1, 0.9, 1.5], ids=["quick", "slow", "late"])
def test_a_limit_that_is_not_in_use_is_neither_praised_nor_blamed(takes_s: float) -> None:
    clock = Clock()
    predictor, route = _limited(
        Asked(_timed(clock, takes_s)), initial=8, deadline_s=1.0, clock=clock
    )
    for _ in range(20):
        predictor.predict(0)
    assert route.concurrency == 8


def test_a_call_has_its_deadline_also_where_the_caller_gave_none() -> None:
    seen: list[float] = []
    predictor, _ = _limited(Asked(lambda _: seen.append(remaining_s())), deadline_s=3.0)
    predictor.predict(0)
    with edgeml.deadline(0.5):
        predictor.predict(0)
    assert 2.0 < seen[0] <= 3.0
    assert 0.0 < seen[1] <= 0.5


def test_a_deadline_that_has_passed_is_a_timeout_and_nothing_is_asked() -> None:
    member = Asked(lambda _: None)
    predictor, _ = _limited(member)
    with edgeml.deadline(0.001):
        time.sleep(0.005)
        with pytest.raises(ServerTimeoutError):
            predictor.predict(0)
    assert member.calls == 0


def test_many_threads_each_get_an_answer_or_a_refusal() -> None:
    rng = random.Random(0)
    naps = [rng.uniform(0.0, 0.004) for _ in range(400)]
    member = Asked(lambda item: time.sleep(naps[item]))
    predictor, _ = _limited(member, initial=3, ceiling=5, deadline_s=0.05)
    callers = Callers(predictor)
    for item in range(400):
        level = rng.choice(("high", "normal", "low"))
        callers.ask(item, priority=level, left_s=rng.uniform(0.005, 0.1))
    callers.wait()
    assert len(callers.ended) == 400
    answered = [item for item, end in callers.ended.items() if end == str(item)]
    refused = [end for end in callers.ended.values() if isinstance(end, Exception)]
    assert all(isinstance(end, (ServerOverloadedError, ServerTimeoutError)) for end in refused)
    assert len(answered) + len(refused) == 400
    assert len(answered) == member.calls
    assert answered
    assert member.most <= 5
    assert (_gauge(predictor, "under_way"), _gauge(predictor, "waiting")) == (0, 0)


@pytest.mark.parametrize(
    "facts",
    [
        {"deadline_s": 0.0},
        {"deadline_s": float("inf")},
        {"initial": 0},
        {"initial": 9, "ceiling": 8},
        {"backoff": 1.0},
        {"slow_share": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="was expected"):
        LimitSettings(**facts)


def test_an_unknown_priority_is_refused() -> None:
    with pytest.raises(InputError, match="'urgent'; one of high, normal, low"):  # noqa: SIM117
        with edgeml.priority("urgent"):  # type: ignore[arg-type]
            pass


def test_what_a_limit_refuses_the_edge_answers_and_the_server_is_still_asked() -> None:
    refusal = ServerOverloadedError(
        "too late", url="grpc://a:1", reason="too-late", refused_by="limit"
    )
    answers = [refusal] * 30 + [None]

    def answer(_: Any) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    server, edge = Asked(answer), Asked(lambda _: None)
    with edgeml.with_fallback(server, edge) as predictor:
        for item in range(31):
            predictor.predict(item)
        assert (server.calls, edge.calls) == (31, 30)  # the breaker of a fallback stayed closed
        assert 'reason="overloaded"' in predictor.metrics_text()


def test_with_limit_wraps_counts_and_closes() -> None:
    member = Asked(lambda _: None)
    with edgeml.with_limit(member, model="parts") as predictor:
        assert predictor.predict("a").label == "a"
        assert 'edgeml_limit_concurrency{model="parts",part=""} 4.0' in predictor.metrics_text()
        with edgeml.with_limit(predictor, model="outer") as outer:
            outer.predict("b")
            text = outer.metrics_text()
            assert 'edgeml_limit_concurrency{model="outer",part=""} 4.0' in text
            assert 'edgeml_limit_concurrency{model="parts",part="limited"} 4.0' in text
    assert member.closed


class Awaited:
    async def predict(self, item: Any) -> Any: ...


@pytest.mark.parametrize(
    "wrong", ["grpc://host:8001", None, Awaited()], ids=["url", "none", "async"]
)
def test_what_is_no_predictor_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"a predictor was expected; edgeml\.connect\(\)"):
        edgeml.with_limit(wrong)
