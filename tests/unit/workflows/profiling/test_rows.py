"""What a row makes of its runs: pooled percentiles, spread, and what makes it invalid."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.workflows.profiling.rows import make_row
from tests.unit.workflows.profiling.made import record, subject

DESIGN = (
    *("target", "scenario", "placement", "threads", "batch", "p50_ms", "p90_ms", "p99_ms"),
    *("throughput_per_s", "errors", "accuracy", "valid", "reason"),
)


def test_a_row_has_the_keys_of_the_contract_and_is_json() -> None:
    row = make_row(subject("edge"), [record([2.0] * 600), record([2.02] * 600)])
    value = row.to_json()
    assert tuple(value)[: len(DESIGN)] == DESIGN
    json.dumps(value, allow_nan=False)
    assert value["p50_ms"] == pytest.approx(2.01, abs=0.011)
    assert value["throughput_per_s"] == pytest.approx(1000 / 2.01, rel=0.01)
    assert (value["valid"], value["stable"], value["errors"]) == (True, True, 0)
    assert value["floor"]["client"] == "in-process"


def test_runs_that_disagree_mark_the_row() -> None:
    row = make_row(subject("edge"), [record([2.0] * 200), record([2.0] * 200), record([2.3] * 200)])
    assert (row.stable, row.valid) == (False, True)
    assert row.spread == pytest.approx(0.15)
    assert "15.0 % apart, above 5 %" in row.reason


def test_one_disturbed_run_of_five_does_not_decide_and_two_do() -> None:
    quiet, disturbed = record([2.0] * 200), record([4.0] * 200)
    one = make_row(subject("edge"), [quiet] * 4 + [disturbed])
    assert (one.valid, one.stable) == (True, False)
    two = make_row(subject("edge"), [quiet] * 3 + [disturbed] * 2)
    assert not two.valid
    assert "the middle half of its 5 runs lies 100 % apart" in two.reason


def test_a_percentile_without_enough_queries_is_not_given() -> None:
    row = make_row(subject("edge"), [record([2.0] * 60)])
    assert row.p50_ms == pytest.approx(2.0)
    assert row.p99_ms is None
    assert row.to_json()["response"]["p99"]["reason"]


def test_wrong_answers_make_a_row_invalid() -> None:
    row = make_row(subject("edge"), [record([2.0] * 200, num_wrong=3)])
    assert not row.valid
    assert "3 of 200 answers are wrong" in row.reason


def test_failed_queries_stay_in_the_denominator() -> None:
    row = make_row(subject("http"), [record([2.0] * 1000, failed=100)])
    assert row.to_json()["errors"] == 100
    assert row.to_json()["p90_ms"] is None or row.to_json()["p90_ms"] >= 2.0
    assert row.p99_ms is None or np.isinf(row.p99_ms)
    assert row.throughput_per_s == pytest.approx(900 / 2.0, rel=0.01)


def test_offline_has_a_throughput_and_no_latency() -> None:
    row = make_row(subject("edge"), [record([8.0] * 100, scenario="offline")], batch=8)
    assert (row.p50_ms, row.response_ms) == (None, ())
    assert row.throughput_per_s == pytest.approx(1000, rel=0.01)
