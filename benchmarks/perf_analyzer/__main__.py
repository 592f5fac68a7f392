"""``python -m benchmarks.perf_analyzer``: perf_analyzer and our client take turns on one server.

Each is one caller in a closed loop, on the same model and protocol, with the same samples where
perf_analyzer cannot make them up. Exit code 0: measured; 1: perf_analyzer refused a model; 2: it
cannot be run here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.perf_analyzer.tool import ToolError, command_for, prepare, run
from edgeml.core.bundle import Bundle
from edgeml.core.files import write_json
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.repository.image_config import ENCODED_INPUT
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.repository.samples import PERF_ANALYZER
from edgeml.serving.repository.text_config import TEXT_INPUT
from edgeml.serving.server.serve import start_triton

IMAGE, TEXT = "image", "text"
Feeds = list[Mapping[str, Any]]


def main(arguments: list[str]) -> int:
    """Measure and print a table."""
    parsed = _parser().parse_args(arguments)
    try:
        prepare()
    except ToolError as exc:
        sys.stderr.write(f"not measured: {exc}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="edgeml-perf-") as folder:
        repository = Path(folder)
        feeds = _publish(parsed.image, parsed.text, repository)
        try:
            rows = _measure(repository, feeds, rounds=parsed.rounds, requests=parsed.requests)
        except ToolError as exc:
            sys.stderr.write(f"error: {exc}\n")
            return 1
    if parsed.out is not None:
        write_json(parsed.out, {"load": os.getloadavg(), "rows": rows})
    sys.stdout.write("\n".join(_table(rows)) + "\n")
    return 0


def _publish(image: Path, text: Path, repository: Path) -> dict[str, Feeds]:
    """Publish both bundles; return each model's feeds, those that perf_analyzer is given too."""
    pictures, texts = Bundle.read(image), Bundle.read(text)
    publish_bundle(pictures, repository, name=IMAGE, options=ServingOptions(encoded=True))
    publish_bundle(texts, repository, name=TEXT)
    return {
        IMAGE: _tensors(pictures),
        f"{IMAGE}_encoded": [{ENCODED_INPUT: _object(file)} for file in _originals(pictures)],
        TEXT: _tensors(texts),
        f"{TEXT}_text": [{TEXT_INPUT: _object(file.decode())} for file in _originals(texts)],
    }


def _tensors(bundle: Bundle) -> Feeds:
    tensors = bundle.golden().tensors
    count = min(8, len(next(iter(tensors.values()))))
    return [{name: array[row : row + 1] for name, array in tensors.items()} for row in range(count)]


def _originals(bundle: Bundle) -> list[bytes]:
    return [bundle.open_file(path) for path in bundle.golden().inputs[:8]]


def _object(value: Any) -> Any:
    array = np.empty(1, dtype=np.object_)
    array[0] = value
    return array


def _measure(
    repository: Path, feeds: Mapping[str, Feeds], *, rounds: int, requests: int
) -> list[dict[str, Any]]:
    rows = []
    with start_triton(repository) as server:
        for model, given in feeds.items():
            for url in (server.grpc, server.http):
                path = repository / model / PERF_ANALYZER
                data = path if path.is_file() else None
                words = command_for(model, url=url, requests=requests, input_data=data)
                engine = TritonEngine(url, model=model)
                pairs = [
                    (run(words), _loop(engine.run, given, requests=requests)) for _ in range(rounds)
                ]
                engine.close()
                rows.append(_row(model, url, data is not None, pairs))
                sys.stderr.write(json.dumps(rows[-1]) + "\n")
    return rows


def _loop(call: Callable[[Any], Any], feeds: Feeds, *, requests: int) -> float:
    """Return the median latency of our client in ms; the first calls are not counted."""
    took = []
    for number in range(requests + 20):
        feed = feeds[number % len(feeds)]
        started = time.perf_counter()
        call(feed)
        took.append(1e3 * (time.perf_counter() - started))
    return median(took[20:])


def _row(model: str, url: str, given: bool, pairs: list[tuple[Any, float]]) -> dict[str, Any]:  # noqa: FBT001
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [own / figures.p50_ms for figures, own in pairs]
    return {
        "model": model,
        "protocol": url.partition(":")[0],
        "given perf_analyzer.json": given,
        "perf_analyzer_p50_ms": round(median(row.p50_ms for row in theirs), 3),
        "perf_analyzer_p99_ms": round(median(row.p99_ms for row in theirs), 3),
        "perf_analyzer_per_s": round(median(row.per_s for row in theirs), 1),
        "edgeml_p50_ms": round(median(ours), 3),
        "ratio": round(median(ratios), 2),
        "ratio_low": round(min(ratios), 2),
        "ratio_high": round(max(ratios), 2),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("model", "protocol", "its input", "perf_analyzer p50 / p99 ms", "our client p50 ms")
    lines = [" | ".join(("", *heads, "ours / its p50", ""))]
    lines.append("|" + "---|" * (len(heads) + 1))
    for row in rows:
        given = "perf_analyzer.json" if row["given perf_analyzer.json"] else "made up by itself"
        its = f"{row['perf_analyzer_p50_ms']:.2f} / {row['perf_analyzer_p99_ms']:.2f}"
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        ours = f"{row['edgeml_p50_ms']:.2f}"
        cells = (row["model"], row["protocol"], given, its, ours, ratio)
        lines.append(f"| {' | '.join(cells)} |")
    return [line.strip() for line in lines]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf_analyzer", description=__doc__)
    add = parser.add_argument
    add("--image", type=Path, default=Path("artifacts/clothing/bundle"), help="an image bundle")
    add("--text", type=Path, default=Path("artifacts/sentiment/bundle"), help="a text bundle")
    add("--rounds", type=int, default=5)
    add("--requests", type=int, default=200, help="of each side in each round")
    add("--out", type=Path, help="JSON file for the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
