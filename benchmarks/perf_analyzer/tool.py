"""One run of perf_analyzer: its command line, and the figures in the file that it writes."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools/perf-analyzer"
_TIMEOUT_S = 120.0
_WARMUP = 20


class ToolError(Exception):
    """perf_analyzer cannot run here, or ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What perf_analyzer says of one closed loop.

    Attributes:
        p50_ms: Median latency, as its client sees it.
        p99_ms: 99th percentile.
        per_s: Requests a second.
    """

    p50_ms: float
    p99_ms: float
    per_s: float


def prepare() -> None:
    """Make what it runs in, the first time.

    Raises:
        ToolError: It cannot be made here; the text says why.
    """
    made = subprocess.run([str(TOOL), "--root"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise ToolError(made.stderr.strip().splitlines()[-1].removeprefix("error: "))


def command_for(
    model: str, *, url: str, requests: int, callers: int = 1, input_data: Path | None = None
) -> list[str]:
    """Return the words after the tool's name.

    Args:
        model: The model.
        url: ``grpc://host:port`` or ``http://host:port``.
        requests: How many to measure.
        callers: Requests under way at any time.
        input_data: What it sends; None lets it make up tensors of the model's fixed shapes.
    """
    protocol, _, place = url.partition("://")
    words = ["-m", model, "-u", place, "-i", protocol, "--concurrency-range", str(callers)]
    words += ["--request-count", str(requests), "--warmup-request-count", str(_WARMUP)]
    return words + ([] if input_data is None else ["--input-data", str(input_data)])


def run(words: Sequence[str]) -> Figures:
    """Run it and read its figures.

    Raises:
        ToolError: It ended with an error, or late.
    """
    with tempfile.TemporaryDirectory(prefix="edgeml-perf-") as folder:
        table = Path(folder, "figures.csv")
        command = [str(TOOL), *words, "-f", str(table), "--verbose-csv"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as exc:
            raise ToolError(f"perf_analyzer took more than {_TIMEOUT_S:g} s") from exc
        if done.returncode or not table.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise ToolError(f"perf_analyzer ended with {done.returncode}: {lines[-1]}")
        (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return Figures(
        p50_ms=float(row["p50 latency"]) / 1e3,
        p99_ms=float(row["p99 latency"]) / 1e3,
        per_s=float(row["Inferences/Second"]),
    )
