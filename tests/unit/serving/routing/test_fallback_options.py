"""Retries, hedges and the numbers of a fallback."""

from __future__ import annotations

import time

import pytest

from edgeml.errors import InputError
from edgeml.serving.routing.fallback_settings import FallbackSettings


def test_retries_are_few_and_only_of_what_is_worth_one(pair):
    both = pair(failures_to_open=1000, failure_share_to_open=1.0, window_calls=1000)
    both.server.state = "error"
    for _ in range(100):
        both.ask()
    made = both.metric("retries_total")["outcome=made"]
    assert 10 <= made <= 20  # a burst of ten, and one in ten
    assert both.server.num_calls == 100 + made
    assert both.metric("retries_total")["outcome=denied"] == 100 - made


@pytest.mark.parametrize("fault", ["timeout", "not_ready", "overloaded"])
def test_what_asking_again_would_not_help_is_not_retried(pair, fault):
    both = pair()
    both.server.state = fault
    both.ask()
    assert both.metric("retries_total") == {}


def test_what_is_not_idempotent_is_never_retried(pair):
    both = pair(idempotent=False)
    both.server.state = "error"
    both.ask()
    assert both.server.num_calls == 1


def test_a_hedge_answers_before_a_slow_server(pair):
    both = pair(hedge_after_s=0.01)
    both.server.state = "slow"
    started = time.monotonic()
    assert both.ask().startswith("onnxruntime")
    assert time.monotonic() - started < 0.05
    assert both.metric("hedges_total") == {"winner=edge": 1}
    assert both.calls() == {"reason=hedge,served=edge": 1}


def test_a_hedge_by_the_p95_waits_until_it_is_known(pair):
    both = pair(hedge_after_s="p95")
    for _ in range(30):
        both.ask()
    before = both.edge.num_calls
    both.server.state = "hung"
    assert both.ask().startswith("onnxruntime")
    assert both.edge.num_calls == before + 1
    assert both.metric("hedges_total")["winner=edge"] >= 1


def test_a_hedged_server_that_fails_soon_is_cut_over_soon(pair):
    both = pair(hedge_after_s=0.09, max_retries=0)
    both.server.state = "error"
    started = time.monotonic()
    assert both.ask().startswith("onnxruntime")
    assert time.monotonic() - started < 0.08


@pytest.mark.parametrize(
    "settings",
    [
        {"cut_over_s": 0.0},
        {"cut_over_s": float("nan")},
        {"cut_over_s": "soon"},
        {"failures_to_open": 0},
        {"failures_to_open": 2.5},
        {"window_calls": 3},
        {"failure_share_to_open": 1.1},
        {"max_retries": -1},
        {"retry_share": 2.0},
        {"hedge_after_s": 0.4},
        {"hedge_after_s": "p99"},
        {"hedge_after_s": 0.1, "idempotent": False},
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError, match="was expected"):
        FallbackSettings(**settings)
