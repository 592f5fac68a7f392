"""Figures of a run: failures stay in the denominator, and nothing is claimed without support."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.bench.floors import Floor
from edgeml.bench.record import Outcome, load_record
from edgeml.bench.summary import summarise
from tests.unit.bench.records import make_record

_FLOOR = Floor(client="hand", server="nothing", p50_us=10.0, p99_us=20.0, num_queries=100)


def test_failures_count_against_goodput_and_percentiles() -> None:
    failed = {
        **dict.fromkeys(range(30), Outcome.REFUSED),
        **dict.fromkeys(range(30, 50), Outcome.TIMEOUT),
        **dict.fromkeys(range(50, 60), Outcome.ERROR),
    }
    record = make_record(np.full(1000, 5.0), outcomes=failed)
    summary = summarise(record, floor=_FLOOR, slo_ms=10.0)
    assert dict(summary.counts) == {
        "ok": 940, "refused": 30, "timeout": 20, "error": 10, "dropped": 0
    }  # fmt: skip
    assert summary.errors == 60
    assert summary.goodput_per_s == pytest.approx(940 / record.seconds)
    assert summary.response["p90"].value_ms == pytest.approx(5.0)
    assert summary.response["p99"].value_ms is None
    assert "6.0 % of the queries have no good answer" in summary.response["p99"].reason
    assert summary.verdict.valid


def test_goodput_counts_what_is_fast_enough() -> None:
    record = make_record(np.tile([2.0, 2.0, 2.0, 20.0], 250))
    summary = summarise(record, floor=_FLOOR, slo_ms=10.0)
    assert summary.goodput_per_s == pytest.approx(750 / record.seconds)
    assert summary.throughput_per_s == pytest.approx(1000 / record.seconds)
    assert summarise(record, floor=_FLOOR).goodput_per_s is None


def test_offline_has_throughput_in_samples_and_no_latency() -> None:
    record = make_record(
        np.full(1000, 5.0), rate_per_s=None, scenario="offline", samples_per_query=8
    )
    summary = summarise(record, floor=_FLOOR)
    assert summary.throughput_per_s == pytest.approx(8000 / record.seconds)
    assert summary.response["p50"].value_ms is None


def test_the_json_has_what_tables_need() -> None:
    summary = summarise(make_record(np.full(300, 5.0), lag_ms=0.2), floor=_FLOOR)
    value = json.loads(json.dumps(summary.to_json()))
    assert value["p50_ms"] == pytest.approx(5.0)
    assert value["p99_ms"] is None
    assert value["response"]["p99"]["reason"] == "300 queries; p99 needs at least 662"
    assert value["service"]["p50"]["value_ms"] == pytest.approx(4.8)
    assert value["floor"]["p50_us"] == 10.0
    assert (value["valid"], value["reason"], value["errors"]) == (True, "", 0)
    assert value["send_lag_p99_ms"] == pytest.approx(0.2)


def test_a_record_survives_its_files(tmp_path) -> None:
    record = make_record(
        np.arange(20.0), outcomes={3: Outcome.DROPPED}, wrong=("a",), conditions={"x": [1]}
    )
    record.save(tmp_path)
    again = load_record(tmp_path)
    for name in ("due_ns", "sent_ns", "done_ns", "lag_ns", "outcome"):
        assert np.array_equal(getattr(again, name), getattr(record, name))
    assert (again.wrong, again.conditions, again.offered_per_s) == (("a",), {"x": [1]}, 100.0)
