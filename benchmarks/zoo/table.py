"""From figures to rows and to the summary; numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.zoo.catalogue import FIXED, FP32, NNCF, OPENVINO_FP32
from benchmarks.zoo.timing import NNCF_FIXED, OURS_ANY, OURS_CHECKED, OURS_FP32, OURS_ORT

# The limits of the claim: against the fastest recipe on each model, and on a third of them.
LEAST_RATIO, GOOD_RATIO, GOOD_SHARE = 0.97, 1.03, 1 / 3

Row = Mapping[str, Any]


def member_row(about: Row, search: Row, peers: Row, timing: Row) -> dict[str, Any]:
    """Return one member's row.

    Args:
        about: Its ``member.json``.
        search: Its ``search.json``.
        peers: Its ``peers.json``.
        timing: Its ``timing.json``.

    Returns:
        Figures; each ratio has ``faster_by``, ``low`` and ``high``: times as fast as the other.
    """
    ours, any_engine = timing["runs"][OURS_ORT], timing["runs"][OURS_ANY]
    best = fastest(ours, [name for name in FIXED if peers.get(name, {}).get("passed")])
    nncf = peers.get(NNCF, {"made": False, "passed": False, "reason": "not made"})
    return {
        "member": about["name"],
        "accuracy": about["accuracy"],
        "samples": about["samples"],
        "fp32_ms": ours[FP32]["p50_ms"],
        "ours_ms": ours[OURS_ORT]["p50_ms"],
        "checks_us": 1e3 * (ours[OURS_CHECKED]["p50_ms"] - ours[OURS_ORT]["p50_ms"]),
        "chosen": search["ort"]["chosen"],
        "chosen_of_any": search["any"]["chosen"],
        "engine": search["any"]["engine"],
        "over_fp32": ours[FP32],
        "over_own_fp32": ours[OURS_FP32],
        "verdict": search["ort"]["verdict"],
        "verdict_of_any": search["any"]["verdict"],
        "best_fixed": best,
        "over_best_fixed": ours[best],
        "nncf": {key: nncf.get(key) for key in ("made", "passed", "reason", "drop")},
        "nncf_as": (scored := scored_nncf(peers, ours)),
        "over_nncf": ours[scored],
        "any_over_nncf": any_engine[scored_nncf(peers, any_engine)],
        "over_nncf_batch_of_one": ours.get(NNCF_FIXED),
        "seconds": search["ort"]["seconds"],
        "warm_seconds": search["ort"]["warm_seconds"],
        "any_seconds": search["any"]["seconds"],
        "any_warm_seconds": search["any"]["warm_seconds"],
    }


def fastest(run: Row, names: Sequence[str]) -> str:
    """Return who takes the least time in one run."""
    return min((name for name in names if name in run), key=lambda name: run[name]["faster_by"])


def scored_nncf(peers: Row, run: Row) -> str:
    """Return what NNCF counts as: itself, or fp32 on the faster engine where its gate fails."""
    if peers.get(NNCF, {}).get("passed"):
        return NNCF
    return fastest(run, [FP32, OPENVINO_FP32])


def never_worse(row: Row) -> bool:
    """Return whether a member's choices keep the gate and are not proven slower than fp32.

    Latency is compared with the bundle's own fp32 file.
    """
    kept = row["verdict"]["passed"] and row["verdict_of_any"]["passed"]
    return bool(kept and row["over_own_fp32"]["high"] >= 1.0)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of the claim over all rows."""
    ratios = [row["over_best_fixed"]["faster_by"] for row in rows]
    good = sum(ratio >= GOOD_RATIO for ratio in ratios)
    return {
        "members": len(rows),
        "worse": [row["member"] for row in rows if not never_worse(row)],
        "below_least": [
            row["member"] for row in rows if row["over_best_fixed"]["faster_by"] < LEAST_RATIO
        ],
        "good": good,
        "good_needed": math.ceil(GOOD_SHARE * len(rows)),
        "unstable": [row["member"] for row in rows if not row["over_best_fixed"]["stable"]],
        "over_fp32": geometric_mean([row["over_fp32"]["faster_by"] for row in rows]),
        "over_best_fixed": geometric_mean(ratios),
        "over_nncf": geometric_mean([row["over_nncf"]["faster_by"] for row in rows]),
        "any_over_nncf": geometric_mean([row["any_over_nncf"]["faster_by"] for row in rows]),
        "nncf_failed": [row["member"] for row in rows if not row["nncf"]["passed"]],
        "longest_search_s": max((row["any_seconds"] for row in rows), default=None),
    }


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return the geometric mean; None of nothing.

    Example:
        >>> geometric_mean([0.5, 2.0])
        1.0
    """
    if not values:
        return None
    return math.exp(sum(math.log(value) for value in values) / len(values))
