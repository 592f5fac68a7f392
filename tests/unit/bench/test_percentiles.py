"""Percentiles: MLPerf's numbers of queries, intervals that cover, and none where none is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.bench.percentiles import (
    discardable,
    meets_bound,
    percentile,
    queries_needed,
)


@pytest.mark.parametrize(("share", "needed"), [(0.9, 64), (0.99, 662), (0.95, 130), (0.5, 11)])
def test_the_queries_needed_are_those_of_mlperf(share: float, needed: int) -> None:
    # 64 for SingleStream's p90 and 662 for MultiStream's p99 stand in MLPerf's rules.
    assert queries_needed(share) == needed
    assert discardable(needed, share) == 1
    assert discardable(needed - 1, share) == 0


def test_too_few_queries_give_no_percentile_but_a_reason() -> None:
    values = np.arange(1.0, 662.0)
    found = percentile(values, 0.99)
    assert (found.value_ms, found.low_ms, found.high_ms, found.bound_ms) == (None,) * 4
    assert found.reason == "661 queries; p99 needs at least 662"
    assert percentile(np.arange(1.0, 663.0), 0.99).value_ms is not None
    assert percentile(values, 0.9).value_ms is not None


def test_the_value_is_numpys() -> None:
    values = np.random.default_rng(3).exponential(5.0, size=2001)
    for share in (0.5, 0.9, 0.95, 0.99):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert percentile(values, share).value_ms == expected


def test_failed_queries_are_slower_than_any_other() -> None:
    values = np.concatenate([np.ones(950), np.full(50, np.inf)])
    assert percentile(values, 0.9).value_ms == 1.0
    slow = percentile(values, 0.99)
    assert slow.value_ms is None
    assert slow.reason == "5.0 % of the queries have no good answer"


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_intervals_and_bounds_cover_as_often_as_they_say(share: float) -> None:
    rng = np.random.default_rng(11)
    true = -np.log(1 - share)
    found = [percentile(rng.exponential(1.0, size=1000), share) for _ in range(1000)]
    high = [np.inf if one.high_ms is None else one.high_ms for one in found]
    covered = np.mean([one.low_ms <= true <= top for one, top in zip(found, high, strict=True)])
    assert 0.93 <= covered <= 0.985
    bounded = np.mean([true <= one.bound_ms for one in found])
    assert bounded >= 0.98  # 0.99 by construction, less what 1,000 draws scatter


def test_a_bound_is_met_only_where_it_is_proven() -> None:
    fast = np.ones(662)
    fast[:1] = 9.0
    assert meets_bound(fast, 0.99, 5.0)
    fast[:2] = 9.0
    assert not meets_bound(fast, 0.99, 5.0)
    assert not meets_bound(np.ones(400), 0.99, 5.0)  # too few
    fast[:2] = np.inf
    assert not meets_bound(fast, 0.99, 5.0)
    assert not meets_bound(np.full(1000, np.inf), 0.99, 5.0)
    assert not meets_bound(np.empty(0), 0.99, 5.0)
