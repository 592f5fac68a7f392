"""A cascade on real pictures: what it costs, and what it loses, against the better model alone.

    python -m benchmarks.resilience cascade --first BUNDLE --second BUNDLE --checkpoint CHECKPOINT

The threshold is chosen on the validation part of the checkpoint's split, proven to lose at most
``--max-drop`` against the second model, and read once on its test part. Then all three (first,
second, cascade) answer the same validation pictures in turns, one thread each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeml
from benchmarks.resilience.multiplications import multiplications_of
from benchmarks.serving.report import conditions
from edgeml.cli.main import LineParser
from edgeml.workflows.cascade_data import labelled_parts
from edgeml.workflows.reporting import ReportTable

_RESAMPLES = 2000
_CALLS = 3
_MIN_RATIO, _MAX_DROP = 1.5, 0.002


def main(argv: Sequence[str]) -> int:
    """Run it, print JSON and tables, and return 0 where both figures are reached."""
    parser = LineParser(prog="python -m benchmarks.resilience cascade", description=__doc__)
    parser.add_argument("--first", required=True, help="bundle of the cheap model")
    parser.add_argument("--second", required=True, help="bundle of the better one")
    parser.add_argument(
        "--checkpoint", required=True, help="whose split of the data is used; both have it"
    )
    parser.add_argument("--max-drop", type=float, default=_MAX_DROP, help="a fraction (0.002)")
    parser.add_argument("--timed", type=int, default=600, help="pictures to time (600)")
    parser.add_argument("--out", help="folder for report.json and report.html")
    arguments = parser.parse_args(argv)
    found, curve = measure(
        Path(arguments.first),
        Path(arguments.second),
        Path(arguments.checkpoint),
        max_drop=arguments.max_drop,
        num_timed=arguments.timed,
    )
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    for table in curve.tables():
        sys.stdout.write(_markdown(table))
    if arguments.out:
        edgeml.write_report(Path(arguments.out), curve.report())
    reached = found["compute_ratio"]["value"] >= _MIN_RATIO and found["drop"] <= _MAX_DROP
    return 0 if reached else 1


def measure(
    first: Path, second: Path, checkpoint: Path, *, max_drop: float, num_timed: int
) -> tuple[dict[str, Any], edgeml.CascadeCurve]:
    """Return the run's figures and the curve.

    Args:
        first: Bundle of the cheap model.
        second: Bundle of the better one.
        checkpoint: Whose split is used.
        max_drop: Largest drop of accuracy to choose by, a fraction.
        num_timed: Pictures to time.

    Raises:
        InputError: No threshold keeps the drop.
    """
    selection, reporting = labelled_parts(checkpoint, edgeml.Bundle.read(first))
    with (
        edgeml.load(first, num_threads=1) as cheap,
        edgeml.load(second, num_threads=1) as better,
    ):
        curve = edgeml.cascade_curve(
            cheap, better, selection, reporting=reporting, max_accuracy_drop=max_drop
        )
        together = edgeml.cascade(cheap, better, threshold=curve.threshold, close_members=False)
        rows = selection[0][:num_timed]
        models: dict[str, edgeml.Predictor] = {
            "first": cheap,
            "second": better,
            "cascade": together,
        }
        times = _in_turns({name: model.predict for name, model in models.items()}, rows)
    reported = curve.reported
    assert reported is not None
    point = reported.point
    products = {name: _products(path) for name, path in (("first", first), ("second", second))}
    return {
        "conditions": conditions(),
        "threshold": curve.threshold,
        "reason": curve.reason,
        "first_accuracy": reported.first_accuracy,
        "second_accuracy": reported.second_accuracy,
        "cascade_accuracy": point.accuracy,
        "drop": point.paired.drop,
        "drop_bound": point.paired.upper_bound,
        "lost": point.paired.lost,
        "gained": point.paired.gained,
        "escalated": [point.share, point.share_low, point.share_high],
        "test_samples": point.paired.num_samples,
        "mean_ms": {name: float(row.mean()) for name, row in times.items()},
        "p50_ms": {name: float(np.median(row)) for name, row in times.items()},
        "timed_pictures": len(rows),
        "compute_ratio": _ratio(times["second"], times["cascade"]),
        "multiplications": products,
        "multiplications_ratio": products["second"]
        / (products["first"] + point.share * products["second"]),
    }, curve


def _in_turns(
    calls: Mapping[str, Callable[[Any], Any]], items: Sequence[Any]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the median time of each item in ms, by name; who goes first is drawn each time."""
    rng = np.random.default_rng(0)
    names = list(calls)
    for item in items[:30]:
        for call in calls.values():
            call(item)
    found = np.zeros((len(names), len(items), _CALLS))
    for place, item in enumerate(items):
        for turn in range(_CALLS):
            for which in rng.permutation(len(names)):
                started = time.perf_counter_ns()
                calls[names[which]](item)
                found[which, place, turn] = (time.perf_counter_ns() - started) / 1e6
    medians = np.median(found, axis=2)
    return dict(zip(names, medians, strict=True))


def _ratio(alone: npt.NDArray[np.float64], together: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the ratio of the means with a 95 % bootstrap interval over the items."""
    picks = np.random.default_rng(0).integers(0, len(alone), size=(_RESAMPLES, len(alone)))
    ratios = alone[picks].mean(axis=1) / together[picks].mean(axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"value": float(alone.mean() / together.mean()), "low": float(low), "high": float(high)}


def _products(bundle: Path) -> int:
    opened = edgeml.Bundle.read(bundle)
    return multiplications_of(opened.checked_path(opened.variant("fp32").file))


def _markdown(table: ReportTable) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([f"\n### {table.title}\n", *lines]) + "\n"
