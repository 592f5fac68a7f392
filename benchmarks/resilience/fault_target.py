"""What the generator asks while a server is harmed, and a diary of who answered when."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import edgeml
from edgeml.bench.targets import CallTarget


def fallback_target(
    *, url: str, model: str, bundle: str, diary: str, settings: dict[str, Any] | None = None
) -> CallTarget:
    """Return a target over ``with_fallback``; its golden pictures are the samples.

    Args:
        url: The server.
        model: The model's name there.
        bundle: The bundle that was published.
        diary: JSON file that is written when the target is closed: ``answers``, a pair of
            nanoseconds of the generator's clock and who answered, and ``metrics``.
        settings: Of the fallback.
    """
    opened = edgeml.Bundle.read(bundle)
    edge = edgeml.load(opened, num_threads=1)
    predictor = edgeml.with_fallback(
        edgeml.connect(url, model=model),
        edge,
        settings=edgeml.FallbackSettings(**(settings or {})),
    )
    golden = opened.golden()
    # Files as users send them; a bundle without them has the pictures that they become.
    items = [opened.open_file(path) for path in golden.inputs] or list(golden.tensors["image"])
    expected = [edge.predict(item).label for item in items]
    answers: list[tuple[int, str]] = []
    Path(diary).with_suffix(".ready").touch()

    def ask(sample: int) -> str | None:
        prediction = predictor.predict(items[sample])
        answers.append((time.perf_counter_ns(), prediction.served_by))
        return prediction.label

    def close() -> None:
        text = predictor.metrics_text()
        predictor.close()
        Path(diary).write_text(json.dumps({"answers": answers, "metrics": text}), encoding="utf-8")

    return CallTarget(
        ask, num_samples=len(items), client=url.partition(":")[0], expected=expected, close=close
    )
