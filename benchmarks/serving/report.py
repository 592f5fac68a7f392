"""The rows as tables for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgeml.runtime.host import available_threads, detect_host


def conditions() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": detect_host().cpu,
        "cores": available_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def table(found: Mapping[str, Any]) -> str:
    """Return every part as a table in Markdown."""
    lines = [", ".join(f"{key} {value}" for key, value in found["conditions"].items())]
    for part, rows in found.items():
        if part != "conditions":
            lines += ["", f"### {part}", "", *_rows(rows)]
    return "\n".join(lines)


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = list(rows[0])
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(_shown(row[head]) for head in heads)} |" for row in rows),
    ]


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else _whole(value)


def _whole(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
