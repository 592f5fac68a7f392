"""LoadGen and our engine at the same arrival times, in turns."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.load.loadgen import LoadGenJob, run_loadgen
from edgeml.bench.arrivals import replayed
from edgeml.bench.record import Record
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import judge

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def compare_with_loadgen(
    *, pairs: int, num_queries: int, rate_per_s: float, service_ms: float, first_seed: int = 1
) -> dict[str, Any]:
    """Run pairs; each has a seed of its own.

    Args:
        pairs: Pairs of runs.
        num_queries: Queries of each run.
        rate_per_s: Mean rate.
        service_ms: Service time of the model that both ask.
        first_seed: Seed of the first pair.

    Returns:
        The rows, and the median over the pairs of ours / LoadGen's, for each percentile.
    """
    rows = []
    for seed in range(first_seed, first_seed + pairs):
        job = LoadGenJob(
            rate_per_s=rate_per_s, num_queries=num_queries, seed=seed, service_ms=service_ms
        )
        theirs = run_loadgen(job)
        ours = _replay(theirs.arrivals_s, service_ms)
        row: dict[str, Any] = {
            "seed": seed,
            "valid": judge(ours).valid,
            "reason": judge(ours).reason,
        }
        for name, share in SHARES.items():
            row[f"loadgen_{name}_ms"] = _quantile(theirs.response_ms, share)
            row[f"ours_{name}_ms"] = _quantile(ours.response_ms, share)
            row[f"ratio_{name}"] = row[f"ours_{name}_ms"] / row[f"loadgen_{name}_ms"]
        row["loadgen_summary"] = theirs.summary
        row["send_lag_p99_ms"] = float(np.quantile(ours.send_lag_ms, 0.99))
        rows.append(row)
    ratios = {name: float(np.median([row[f"ratio_{name}"] for row in rows])) for name in SHARES}
    return {
        "rate_per_s": rate_per_s,
        "service_ms": service_ms,
        "utilisation": rate_per_s * service_ms / 1e3,
        "num_queries": num_queries,
        "rows": rows,
        "median_ratio": ratios,
    }


def _replay(arrivals_s: Any, service_ms: float) -> Record:
    spec = TargetSpec(
        factory="benchmarks.load.fixed_service:fixed_target", options={"service_ms": service_ms}
    )
    return run(spec, Server(schedule=replayed(arrivals_s), callers=64))


def _quantile(values: Any, share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))
