"""A server that fails in every way, and the edge behind it: who answers, when, and what is told."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeml.core.deadline import deadline
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    ServerError,
    ServerTimeoutError,
)
from edgeml.serving.routing.fallback import fallback
from tests.pictures import rgb_file
from tests.unit.serving.routing import scripted
from tests.unit.serving.routing.pairs import Pair
from tests.unit.serving.routing.scripted import PICTURE, Scripted, wait_until

FAULTS = ["unreachable", "timeout", "not_ready", "overloaded", "error"]


def test_a_server_that_is_well_answers(pair):
    both = pair()
    assert both.ask() == "triton/cpu/int8/1"
    assert both.edge.num_calls == 0
    assert both.calls() == {"reason=ok,served=server": 1}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_the_server_is_answered_by_the_edge(pair, fault):
    both = pair(max_retries=0)
    both.server.state = fault
    assert both.ask() == "onnxruntime/cpu/int8/1"
    assert both.calls() == {f"reason={fault},served=edge": 1}
    assert both.metric("server_faults_total") == {f"fault={fault}": 1}
    assert both.metric("cut_overs_total").get("", 0.0) == (1.0 if fault == "timeout" else 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda predictor: predictor.predict_batch(picture for picture in [PICTURE, PICTURE]),
        lambda predictor: predictor.predict_batch([PICTURE], on_error="return"),
        lambda predictor: predictor.predict_tensors({"image": PICTURE[None]}),
        lambda predictor: predictor.run({"image": PICTURE[None]}),
    ],
)
def test_every_method_falls_back(pair, call):
    both = pair()
    both.server.state = "error"
    assert len(call(both.predictor)) >= 1
    assert both.edge.num_calls == 1


@pytest.mark.parametrize("state", ["input", "refused"])
def test_a_callers_own_fault_is_neither_counted_retried_nor_answered_elsewhere(pair, state):
    both = pair()
    both.server.state = state
    for _ in range(20):
        with pytest.raises((InputError, ServerError)):
            both.ask()
    assert both.server.num_calls == 20
    assert both.edge.num_calls == 0
    assert both.state() == "state=closed"
    assert both.metric("server_faults_total") == {}
    assert both.calls() == {"reason=input,served=nobody": 20}


def test_an_unusable_item_reaches_nobody(pair):
    both = pair()
    with pytest.raises(InputError):
        both.predictor.predict(b"no picture")
    with pytest.raises(InputError, match="a list was expected"):
        both.predictor.predict_batch(7)
    assert both.server.num_calls == both.edge.num_calls == 0
    assert both.calls() == {"reason=input,served=nobody": 2}


def test_a_hung_server_is_waited_for_no_longer_than_the_cut_over(pair):
    both = pair()
    both.server.state = "hung"
    started = time.monotonic()
    assert both.ask().startswith("onnxruntime")
    assert 0.09 <= time.monotonic() - started < 1.0
    assert max(both.server.left) <= 0.1


def test_a_callers_deadline_cuts_over_sooner_and_leaves_time_for_the_edge(pair):
    both = pair(cut_over_s=2.0)
    both.edge.state = "slow"  # 0.05 s, which is learnt
    both.server.state = "error"
    both.ask()
    both.server.state = "hung"
    with deadline(0.2):
        assert both.ask().startswith("onnxruntime")
    assert both.server.left[-1] <= 0.155


def test_the_breaker_opens_and_no_call_waits_any_more(pair):
    both = pair(failures_to_open=3, probe_every_s=5.0)
    both.server.state = "hung"
    for _ in range(3):
        both.ask()
    asked = both.server.num_calls
    started = time.monotonic()
    for _ in range(20):
        assert both.ask().startswith("onnxruntime")
    assert time.monotonic() - started < 0.09 * 20
    assert both.calls()["reason=open,served=edge"] == 20
    assert both.server.num_calls - asked < 10  # probes alone


def test_it_comes_back_by_a_probe_and_no_caller_is_the_one_who_finds_out(pair):
    both = pair(failures_to_open=2)
    for _ in range(3):
        both.ask()
    both.server.state = "not_ready"
    assert both.ask().startswith("onnxruntime")
    time.sleep(0.2)
    assert both.state() in ("state=open", "state=half_open")
    both.server.state = "well"
    wait_until(lambda: both.ask().startswith("triton"))
    transitions = both.metric("breaker_transitions_total")
    assert transitions["after=open,before=closed"] == 1
    assert transitions["after=closed,before=half_open"] == 1
    probes = both.metric("probes_total")
    assert probes["outcome=good"] == 2
    assert probes["outcome=not_ready"] >= 1


def test_a_server_that_answers_wrong_does_not_come_back(pair):
    right = threading.Event()
    both = pair(check=lambda predictor: right.is_set())
    both.server.state = "not_ready"
    both.ask()
    both.server.state = "well"
    wait_until(lambda: both.metric("probes_total").get("outcome=wrong", 0) >= 3)
    assert both.ask().startswith("onnxruntime")
    right.set()
    wait_until(lambda: both.ask().startswith("triton"))


def test_a_golden_request_that_breaks_does_not_end_the_asking(pair, caplog):
    broken = threading.Event()
    broken.set()

    def check(predictor):
        if broken.is_set():
            raise KeyError("a mistake of ours")
        return True

    broken.clear()
    both = pair(check=check)
    broken.set()
    both.server.state = "not_ready"
    both.ask()
    both.server.state = "well"
    wait_until(lambda: both.metric("probes_total").get("outcome=wrong", 0) >= 2)
    assert "came to an end of its own" in caplog.text
    broken.clear()
    wait_until(lambda: both.ask().startswith("triton"))


def test_an_item_that_is_gone_does_not_keep_the_server_away(pair, tmp_path):
    both = pair()
    place = tmp_path / "a.png"
    place.write_bytes(rgb_file())
    both.predictor.predict(place)
    place.unlink()  # the last call of one sample cannot be repeated any more
    both.server.state = "not_ready"

    def asked():
        return both.predictor.predict_batch([PICTURE, PICTURE])[0].served_by

    assert asked().startswith("onnxruntime")
    both.server.state = "well"
    wait_until(lambda: asked().startswith("triton"))


def test_required_never_falls_back_and_fails_at_once_once_it_is_open(pair):
    both = pair("required", failures_to_open=3, max_retries=0, probe_every_s=5.0)
    both.server.state = "hung"
    for _ in range(3):
        with pytest.raises(ServerTimeoutError):
            both.ask()
    started = time.monotonic()
    errors = []
    for _ in range(20):
        with pytest.raises(ServerTimeoutError) as caught:
            both.ask()
        errors.append(caught.value)
    assert time.monotonic() - started < 0.5
    assert len({id(error) for error in errors}) == 20
    assert "the breaker is open" in errors[0].__notes__[0]
    assert both.edge.num_calls == 0
    assert both.calls() == {"reason=timeout,served=nobody": 23}


def test_required_waits_longer_than_the_cut_over(pair):
    both = pair("required", cut_over_s=0.02)
    both.server.state = "slow"
    assert both.ask().startswith("triton")


def test_forbidden_always_uses_the_edge_and_never_asks_the_server(pair):
    both = pair("forbidden")
    assert both.ask().startswith("onnxruntime")
    assert both.server.num_calls == 0
    assert both.calls() == {"reason=policy,served=edge": 1}


def test_a_change_is_logged_once_and_calls_are_not(pair, caplog):
    both = pair()
    both.ask()
    with caplog.at_level(logging.DEBUG, logger="edgeml"):
        both.server.state = "not_ready"
        for _ in range(50):
            both.ask()
        both.server.state = "well"
        wait_until(lambda: both.ask().startswith("triton"))
    words = [record.getMessage() for record in caplog.records]
    assert len(words) == 2
    assert "triton/cpu/int8/1 is not asked for now (not_ready, 1 in a row): the edge" in words[0]
    assert "calls go to it" in words[1]


def test_a_callers_short_deadline_does_not_speak_against_a_server_that_needs_longer(pair):
    both = pair(failures_to_open=2)
    both.server.state = "slow"
    for _ in range(20):
        both.ask()  # 50 ms is usual
    for _ in range(10):
        with deadline(0.02):
            both.server.state = "hung"
            assert both.ask().startswith("onnxruntime")
    assert both.state() == "state=closed"


def test_close_ends_every_thread(pair):
    before = set(threading.enumerate())
    both = pair(hedge_after_s=0.01)
    both.server.state = "hung"
    for _ in range(6):
        both.ask()
    both.predictor.close()
    both.predictor.close()
    assert both.server.closed.is_set()
    assert both.edge.closed.is_set()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ClosedError):
        both.ask()


def test_many_threads_while_the_server_comes_and_goes(pair):
    both = pair()
    stop = threading.Event()

    def callers():
        count = 0
        while not stop.is_set():
            both.ask()
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(callers) for _ in range(4)]
        for state in ["unreachable", "well", "hung", "well", "not_ready", "well", "error", "well"]:
            both.server.state = state
            time.sleep(0.1)
        stop.set()
        total = sum(row.result() for row in running)
    assert sum(both.calls().values()) == total
    assert not any("nobody" in key for key in both.calls())


def test_a_fallback_behind_a_fallback_shows_both(pair):
    inner = Pair()
    outer_server = scripted.server()
    outer = fallback(outer_server.predictor, inner.predictor)
    outer_server.state = "error"
    inner.server.state = "error"
    assert outer.predict(PICTURE).served_by.startswith("onnxruntime")
    text = outer.metrics_text()
    assert text.count("# TYPE edgeml_fallback_calls counter") == 1
    assert 'part="edge",reason="error"' in text
    assert text.endswith("# EOF\n")
    outer.close()
    assert inner.edge.closed.is_set()


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Scripted("x/cpu/int8/1", labels=("left", "up")), "labels"),
        (Scripted("x/cpu/int8/1", labels=("left", "right", "up")), "signature"),
    ],
)
def test_another_model_is_refused(other, word):
    with pytest.raises(InputError, match=word):
        fallback(scripted.server().predictor, other.predictor)


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(InputError, match="required, allowed, forbidden"):
        fallback(scripted.server().predictor, scripted.edge().predictor, policy="maybe")


def test_not_ready_comes_out_of_required(pair):
    both = pair("required")
    both.server.state = "not_ready"
    for _ in range(3):
        with pytest.raises(ModelNotReadyError, match="stub not healthy"):
            both.ask()
