"""What a canary costs its callers, how seldom it errs, and how soon it finds what is wrong.

    python -m benchmarks.resilience canaries --bundle BUNDLE

``overhead`` times one call in turns, alone and through a canary. ``alike`` lets candidates that are
within all limits run, looked at after every item: the share that is stopped is the false alarms.
``delays`` spoils candidates in known ways and counts the items until they are stopped. The last two
are draws fed to the very watches that a canary has; no model runs.
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import edgeml
from benchmarks.serving.report import conditions
from edgeml.cli.main import LineParser
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.serving.routing.health import Health, Said

_LABELS = tuple(f"label {number}" for number in range(10))
# Feeds a health one item: whether that counted is in its watches.
Feed = Callable[[Health, np.random.Generator], None]


def main(argv: Sequence[str]) -> int:
    """Run it, print JSON, and return 0 where false alarms keep their level."""
    parser = LineParser(prog="python -m benchmarks.resilience canaries", description=__doc__)
    parser.add_argument("--bundle", required=True, help="image bundle for the overhead")
    parser.add_argument("--runs", type=int, default=200, help="candidates that are alike (200)")
    parser.add_argument("--items", type=int, default=1000, help="items that each is asked (1000)")
    arguments = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    stops = [
        _items_until_stop(_alike, rng, most=arguments.items) is not None
        for _ in range(arguments.runs)
    ]
    level = edgeml.CanarySettings().false_stop
    found = {
        "conditions": conditions(),
        "overhead": overhead(Path(arguments.bundle)),
        "own_part_us": own_part(Path(arguments.bundle)),
        "alike": {"runs": len(stops), "stopped": int(sum(stops)), "level": level},
        "delays": {name: delay(feed, rng) for name, feed in SPOILT.items()},
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    # Chance of more stops than this is below one in a thousand, if the level is kept.
    allowed = level * len(stops) + 3.1 * (level * len(stops)) ** 0.5
    return 0 if sum(stops) <= allowed else 1


def overhead(bundle: Path) -> dict[str, Any]:
    """Return the latency of one call, alone and through a canary, in turns."""
    rng = np.random.default_rng(0)
    with edgeml.load(bundle, num_threads=1) as one, edgeml.load(bundle, num_threads=1) as two:
        shape = [int(size) for size in one.signature.inputs[0].shape[1:]]
        pictures = list(rng.integers(0, 256, (64, *shape), dtype=np.uint8))
        quiet = edgeml.canary(one, two, share=0.05, shadow=0.0, close_members=False)
        watched = edgeml.canary(one, two, share=0.05, shadow=0.05, close_members=False)
        turn = iter(range(10**9))
        calls = {
            name: lambda model=model: model.predict(pictures[next(turn) % 64])
            for name, model in (("alone", one), ("canary", quiet), ("and shadow", watched))
        }
        rows = compare_latency(calls, baseline="alone", plan=TimingPlan(rounds=200, calls=5))
        quiet.close()
        watched.close()
    return {name: asdict(row) for name, row in rows.items()}


class _Ready:
    """A predictor whose answer costs nothing; all else is the real one's."""

    def __init__(self, real: edgeml.Predictor, answer: edgeml.Prediction) -> None:
        self._real, self._answer = real, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def predict(self, item: Any) -> edgeml.Prediction:
        return self._answer


def own_part(bundle: Path, *, calls: int = 20_000) -> dict[str, float]:
    """Return the microseconds that a call spends in the canary, around models that cost nothing."""
    with edgeml.load(bundle, num_threads=1) as real:
        shape = [int(size) for size in real.signature.inputs[0].shape[1:]]
        picture = np.zeros(shape, dtype=np.uint8)
        answer = real.predict(picture)
        # By now these have all that a predictor has, which a type checker does not see.
        models: list[Any] = [_Ready(real, answer), _Ready(real, answer)]
        canary = edgeml.canary(*models, share=0.05, shadow=0.0, close_members=False)

        def microseconds() -> float:
            rounds = timeit.repeat(lambda: canary.predict(picture), number=calls // 20, repeat=20)
            return 1e6 * float(np.median(rounds)) / (calls // 20)

        contents = microseconds()
        with canary.keyed("user-17"):
            return {"key given": microseconds(), "key from the contents": contents}


def delay(feed: Feed, rng: np.random.Generator, *, runs: int = 30) -> dict[str, Any]:
    """Return after how many items a spoilt candidate is stopped."""
    counts = [_items_until_stop(feed, rng, most=5000) for _ in range(runs)]
    found = [count for count in counts if count is not None]
    return {
        "stopped": f"{len(found)} of {runs}",
        "median_items": float(np.median(found)) if found else None,
        "p90_items": float(np.percentile(found, 90)) if found else None,
    }


def _items_until_stop(feed: Feed, rng: np.random.Generator, *, most: int) -> int | None:
    health = Health(settings=edgeml.CanarySettings())
    for count in range(1, most + 1):
        feed(health, rng)
        if health.reason() is not None:
            return count
    return None


def _item(
    health: Health,
    rng: np.random.Generator,
    *,
    flips: float = 0.02,
    shift: float = 0.0,
    failures: float = 0.0,
    slowdown: float = 1.0,
    collapse: bool = False,
) -> None:
    """Feed one item of a candidate: its share of flips and failures, its shift, its slowness."""
    failed = rng.random() < failures
    health.asked(failed=failed)
    if failed:
        return
    mine = _LABELS[rng.integers(len(_LABELS))]
    flipped = rng.random() < flips
    other = _LABELS[0] if collapse else _LABELS[rng.integers(len(_LABELS))]
    confidence = rng.uniform(0.5, 1.0)
    noisy = float(np.clip(confidence + shift + rng.normal(0, 0.02), 0.0, 1.0))
    health.answered(
        Said(labels=frozenset([mine]), confidence=confidence),
        Said(labels=frozenset([other if flipped else mine]), confidence=noisy),
        num_labels=len(_LABELS),
    )
    # Latencies have tails: each model draws its own.
    stable_s, candidate_s = 0.005 * rng.lognormal(0, 0.3, 2)
    health.timed(stable_s=stable_s, candidate_s=slowdown * candidate_s)


def _alike(health: Health, rng: np.random.Generator) -> None:
    """At the limits of flips, confidence and failures: what is just allowed."""
    _item(health, rng, flips=0.2, shift=-0.09, failures=0.01, slowdown=1.4)


SPOILT: dict[str, Feed] = {
    "fails all": lambda health, rng: _item(health, rng, failures=1.0),
    "fails 10 %": lambda health, rng: _item(health, rng, failures=0.1),
    "fails 3 %": lambda health, rng: _item(health, rng, failures=0.03),
    "other labels on half": lambda health, rng: _item(health, rng, flips=0.55),
    "other labels on 30 %": lambda health, rng: _item(health, rng, flips=0.33),
    "one label on 40 %": lambda health, rng: _item(health, rng, flips=0.4, collapse=True),
    "confidence less 0.2": lambda health, rng: _item(health, rng, shift=-0.2),
    "twice as slow": lambda health, rng: _item(health, rng, slowdown=2.0),
    "three times as slow": lambda health, rng: _item(health, rng, slowdown=3.0),
}
