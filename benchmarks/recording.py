"""What every benchmark keeps beside pytest-benchmark's own figures, in ``extra_info``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeml
from edgeml.bench.percentiles import percentile
from edgeml.bench.summary import SHARES, Summary
from edgeml.runtime.host import detect_host

SEEDED = "a small seeded model, made for this run: its accuracy means nothing"


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a suite measures.

    Attributes:
        bundle: The bundle.
        origin: The artefact's place, or that it is a seeded model.
    """

    bundle: edgeml.Bundle
    origin: str

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self.bundle.path

    def facts(self, variant: str) -> dict[str, Any]:
        """Return what identifies an artefact, and what it gets right."""
        row = self.bundle.variant(variant)
        reported = row.evidence.get("reported_accuracy")
        return {
            "model": f"{self.bundle.manifest.name}: {self.origin}",
            "variant": row.name,
            "artefact_sha256": row.sha256,
            "artefact_bytes": row.size_bytes,
            "accuracy": reported if reported is not None else row.accuracy,
        }


def keep(benchmark: Any, model: Model, served_by: str, **conditions: Any) -> None:
    """Keep a benchmark's percentiles with their intervals, and what they depend on.

    Call it after the benchmark has run.

    Args:
        benchmark: pytest-benchmark's fixture.
        model: What was measured.
        served_by: Who answered.
        **conditions: What else belongs to the figure, such as threads.
    """
    taken_ms = 1e3 * np.asarray(benchmark.stats.stats.data)
    found = {name: percentile(taken_ms, share) for name, share in SHARES.items()}
    benchmark.extra_info.update(
        {
            **model.facts(served_by.split("/")[2]),
            "served_by": served_by,
            "scenario": "single-stream",
            "num_calls": int(taken_ms.size),
            **{f"{name}_ms": row.value_ms for name, row in found.items()},
            "intervals": {name: row.to_json() for name, row in found.items()},
            "host": detect_host().to_json(),
            "gc": "on",
            **conditions,
        }
    )


def show_latencies(benchmark: Any, latencies_ms: np.ndarray) -> None:
    """Let pytest-benchmark's table and files hold latencies that the load engine measured.

    One empty call is timed, and the latencies take the place of its time before any statistic is
    computed; without this the table would show something else than what was measured.

    Args:
        benchmark: pytest-benchmark's fixture, not used yet.
        latencies_ms: float64 ``(queries,)``; those that got no answer are infinite and left out.
    """
    benchmark.pedantic(lambda: None, rounds=1)
    answered = latencies_ms[np.isfinite(latencies_ms)]
    benchmark.stats.stats.data = (answered / 1e3).tolist()


def keep_summary(
    benchmark: Any, model: Model, served_by: str, summary: Summary, **conditions: Any
) -> None:
    """Keep the figures of one run of the load engine; the benchmark's own time is the run's."""
    benchmark.extra_info.update(
        {
            **model.facts(served_by.split("/")[2]),
            "served_by": served_by,
            **{key: value for key, value in summary.to_json().items() if key != "conditions"},
            "host": detect_host().to_json(),
            **conditions,
        }
    )


def answering(predictor: edgeml.Predictor, items: list[Any]) -> Callable[[], edgeml.Prediction]:
    """Return a call that answers the next item in turn."""
    at = iter(range(1 << 62))
    return lambda: predictor.predict(items[next(at) % len(items)])
