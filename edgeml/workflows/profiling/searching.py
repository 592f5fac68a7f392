"""The highest rate that each target bears within the p99 bound, by real runs: the full tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeml.bench.rates import find_highest_rate
from edgeml.bench.record import Record
from edgeml.bench.running import run
from edgeml.bench.settings import RunSettings
from edgeml.workflows.profiling.measuring import Measurable, Say, arrivals
from edgeml.workflows.profiling.rows import Row
from edgeml.workflows.profiling.settings import ProfileSettings, ServiceLevel

# The p99 needs some hundreds of queries to be proven; more cost time at low rates.
_QUERIES = 800
_DEFAULT_FACTOR = 5.0
_RESOLUTION = 0.1


def search_rates(
    targets: Sequence[Measurable],
    rows: Sequence[Row],
    settings: ProfileSettings,
    *,
    level: ServiceLevel,
    say: Say,
) -> dict[str, Any]:
    """Search each target's highest rate; empty where the preset does not ask for it.

    Without a bound, five times the median of the slowest target is taken, the same for all.
    """
    if not settings.search_rates:
        return {}
    medians = {
        row.subject.target: row.p50_ms
        for row in rows
        if row.scenario == "single-stream" and row.p50_ms
    }
    bound_ms = level.p99_ms or _DEFAULT_FACTOR * max(medians.values())
    found: dict[str, Any] = {}
    for target in targets:
        if target.name not in medians:
            continue
        say(f"{target.name}: its highest rate with a p99 of {bound_ms:.3g} ms")
        start = 0.25 * 1e3 / (medians[target.name] or 1.0)
        best = find_highest_rate(
            _runner(target, settings, say),
            bound_ms=bound_ms,
            start_per_s=start,
            resolution=_RESOLUTION,
        )
        found[target.name] = best.to_json()
    return found


def _runner(target: Measurable, settings: ProfileSettings, say: Say) -> Callable[[float], Record]:
    def run_at(rate_per_s: float) -> Record:
        seconds = float(np.clip(_QUERIES / rate_per_s, 2.0, settings.server_s))
        say(f"{target.name}: {rate_per_s:.3g} a second for {seconds:.0f} s")
        scenario = arrivals(target, rate_per_s, seconds, seed=settings.seed)
        return run(target.spec(), scenario, RunSettings(seed=settings.seed))

    return run_at
