"""Turn ``pytest benchmarks --benchmark-json=FILE`` into the tables of docs/results.

``python -m benchmarks.summary FILE`` prints Markdown: one row a benchmark with the figures that it
recorded beside pytest-benchmark's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_SPEED = ("p50_ms", "p90_ms", "speedup", "speedup_low", "speedup_high", "stable", "num_calls")


def main(path: str) -> str:
    """Return the tables as Markdown."""
    rows = json.loads(Path(path).read_text())["benchmarks"]
    speed = [row for row in rows if "speedup" in row["extra_info"]]
    other = [row for row in rows if "speedup" not in row["extra_info"]]
    return "\n".join([*_speed_table(speed), "", *_other_table(other)])


def _speed_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| input | target | p50 ms | p90 ms | against fp32 | 95 % interval | calls |",
        "|---|---|---|---|---|---|---|",
    ]
    for info in sorted((row["extra_info"] for row in rows), key=_input):
        p50, p90, speedup, low, high, stable, calls = (info[key] for key in _SPEED)
        mark = "" if stable else " (unstable)"
        lines.append(
            f"| {_input(info)} | {info['target']} | {p50:.3f} | {p90:.3f} | "
            f"{speedup:.2f}x{mark} | {low:.2f} to {high:.2f} | {calls} |"
        )
    return lines


def _input(info: dict[str, Any]) -> str:
    return str(info["input"])


def _other_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| benchmark | figures |", "|---|---|"]
    for row in rows:
        figures = ", ".join(
            f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row["extra_info"].items()
            if not isinstance(value, (dict, list))
        )
        lines.append(f"| {row['name']} | {figures} |")
    return lines


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")
