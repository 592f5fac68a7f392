"""Edge and server in turns within one run; the gates are ratios of that run, never times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from benchmarks.recording import Model, show_latencies
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.runtime.host import detect_host

_TARGETS = ("edge", "http", "triton-grpc")
# A server cannot be faster than the same file in-process; noise of a shared machine may say so.
_NOISE = 0.95
# The chosen variant was proven no slower than fp32 when it was exported.
_NEVER_SLOWER = 0.9


@pytest.fixture(scope="module")
def profile(model: Model, tier: str, tmp_path_factory: pytest.TempPathFactory) -> edgeml.Profile:
    """One short profile, or the quick preset in the full tier."""
    settings = edgeml.ProfileSettings(
        repeats=3, run_s=0.7, server_s=4.0, offline_s=1.0, starts=1, retry_s=15.0
    )
    return edgeml.profile(
        model.bundle,
        targets=_TARGETS,
        scenarios=("single-stream", "server"),
        level=edgeml.ServiceLevel(p99_ms=50, rate_per_s=100),
        settings=settings if tier == "quick" else edgeml.ProfileSettings(),
        out=tmp_path_factory.mktemp("profile"),
    )


@pytest.mark.parametrize("target", _TARGETS)
def test_one_deployment(benchmark, model: Model, profile: edgeml.Profile, target: str) -> None:
    """Keep a target's rows; the table shows quantiles of its single-stream latencies."""
    rows = {row["scenario"]: row for row in profile.rows if row["target"] == target}
    single = rows["single-stream"]
    edge = next(
        row for row in profile.rows if (row["target"], row["scenario"]) == ("edge", "single-stream")
    )
    ratio = single["p50_ms"] / edge["p50_ms"]
    benchmark.group = "edge and server in turns"
    benchmark.extra_info.update(
        {
            **model.facts(single["variant"]),
            "rows": [_without_samples(row) for row in rows.values()],
            "p50_over_edge": ratio,
            "recommendation": profile.recommendation["reason"],
            "host": detect_host().to_json(),
        }
    )
    show_latencies(benchmark, np.asarray(single["response_ms"], dtype=np.float64))
    assert single["counts"]["error"] == 0
    # Runs that a neighbour disturbed say nothing about the ratio; their rows say so themselves.
    judged = single["valid"] and edge["valid"]
    benchmark.extra_info["gate_judged"] = judged
    assert not judged or ratio >= _NOISE


def test_the_chosen_variant_is_no_slower_than_fp32(benchmark, model: Model) -> None:
    """Take turns; the gate is the upper end of the ratio's interval."""
    chosen = model.bundle.manifest.chosen
    feed = {key: array[:1] for key, array in model.bundle.golden().tensors.items()}
    with (
        edgeml.load(model.bundle, variant="fp32", num_threads=1) as reference,
        edgeml.load(model.bundle, variant=chosen, num_threads=1) as candidate,
    ):
        rows = compare_latency(
            {
                "fp32": lambda: reference.predict_tensors(feed),
                "chosen": lambda: candidate.predict_tensors(feed),
            },
            baseline="fp32",
            plan=TimingPlan(rounds=60, calls=5, budget_s=20.0),
        )
        row = rows["chosen"]
        benchmark.extra_info.update(
            {
                **model.facts(chosen),
                "input": "chosen beside fp32",
                "target": f"edge {chosen}",
                "p50_ms": row.p50_ms,
                "p90_ms": row.p90_ms,
                "speedup": row.speedup,
                "speedup_low": row.speedup_low,
                "speedup_high": row.speedup_high,
                "stable": row.stable,
                "num_calls": row.num_calls,
            }
        )
        benchmark.pedantic(candidate.predict_tensors, args=(feed,), rounds=100, warmup_rounds=5)
    assert row.speedup_high >= _NEVER_SLOWER


def test_the_report_is_written(benchmark, profile: edgeml.Profile) -> None:
    """Time the page alone: it must not be what a profile waits for."""
    from edgeml.workflows.profiling.page import render

    page = benchmark.pedantic(render, args=(profile.report,), rounds=5)
    assert "recommend" in page or str(profile.recommendation["target"]) in page
    assert Path(profile.folder, "history.jsonl").read_text().count("\n") == 1


def _without_samples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "response_ms"}
