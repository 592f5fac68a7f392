"""The pictures of a search's report, as SVG that needs nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _MARGIN = 640, 340, 56
_COLOURS = {"chosen": "#1a7f37", "passed": "#0a6ebd", "reference": "#57606a"}
_REJECTED = "#cf222e"
_LARGEST_DOT = 22.0
_PERCENTILES = {"p50_ms": "median", "p90_ms": "90th", "p99_ms": "99th"}
_HIGH = ("p90_ms", "p99_ms")


def pareto_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw latency against quality, a dot's area being the size of the file.

    Quality is accuracy, or agreement with fp32 where there are no labels. Rows without a latency
    or a quality are left out; empty where none is left.

    Args:
        rows: As :class:`~edgeml.workflows.exporting.Exported` has them.
    """
    labelled = any(row.get("accuracy") is not None for row in rows)
    key = "accuracy" if labelled else "agreement"
    known = [
        (row, float(row["p50_ms"]), float(row[key]))
        for row in rows
        if row.get("p50_ms") is not None and row.get(key) is not None
    ]
    if not known:
        return ""
    across = _scale([x for _, x, _ in known], _MARGIN, _WIDTH - 20)
    down = _scale([y for _, _, y in known], _HEIGHT - _MARGIN, 20)
    largest = max(float(row.get("size_bytes") or 1) for row, _, _ in known)
    dots = []
    for row, latency, quality in known:
        share = float(row.get("size_bytes") or 1) / largest
        colour = _COLOURS.get(str(row["verdict"]), _REJECTED)
        x, y, radius = across(latency), down(quality), _LARGEST_DOT * math.sqrt(share) / 2
        label = escape(str(row["name"]))
        dots.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}' fill='{colour}' "
            f"fill-opacity='.55'><title>{label}: {latency:.3f} ms, {quality:.4f}</title></circle>"
            f"<text x='{x + radius + 3:.1f}' y='{y + 4:.1f}'>{label}</text>"
        )
    base = _HEIGHT - _MARGIN
    ends = (min(x for _, x, _ in known), max(x for _, x, _ in known))
    sides = (min(y for _, _, y in known), max(y for _, _, y in known))
    axes = (
        f"<line class='axis' x1='{_MARGIN}' y1='{base}' x2='{_WIDTH}' y2='{base}'/>"
        f"<line class='axis' x1='{_MARGIN}' y1='10' x2='{_MARGIN}' y2='{base}'/>"
        f"<text x='{across(ends[0]):.0f}' y='{base + 18}'>{ends[0]:.3g}</text>"
        f"<text x='{across(ends[1]) - 24:.0f}' y='{base + 18}'>{ends[1]:.3g}</text>"
        f"<text x='{_WIDTH / 2:.0f}' y='{base + 36}'>median latency, ms</text>"
        f"<text x='4' y='{down(sides[0]):.0f}'>{sides[0]:.4f}</text>"
        f"<text x='4' y='{down(sides[1]) + 4:.0f}'>{sides[1]:.4f}</text>"
        f"<text x='4' y='{_HEIGHT / 2:.0f}'>{key}</text>"
    )
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>{axes}{''.join(dots)}</svg>"


def latency_heading(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which percentiles :func:`latency_picture` draws, and how many calls they rest on.

    Args:
        rows: The same; they may have ``num_calls``.
    """
    known = _timed(rows)
    *most, last = (_PERCENTILES[key] for key in _drawn(known))
    words = f"{', '.join(most)} and {last} percentile" if most else last
    calls = min((int(row.get("num_calls") or 0) for row in known), default=0)
    return f"{words} of {calls:,} calls" if calls else words


def latency_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw each row's latencies: a dot a percentile, of the percentiles that all rows have.

    Args:
        rows: With ``target``, ``name``, ``p50_ms`` and perhaps ``p90_ms`` and ``p99_ms``; those
            without a median are left out. Empty where none is left.
    """
    known = _timed(rows)
    if not known:
        return ""
    keys = _drawn(known)
    step, left = 28, 180
    scale = (_WIDTH - left - 110) / (max(float(row[keys[-1]]) for row in known) or 1.0)
    drawn = []
    for index, row in enumerate(known):
        y, values = 16 + step * index, [float(row[key]) for key in keys]
        marks = "".join(
            f"<circle cx='{left + value * scale:.1f}' cy='{y}' r='{5 - 1.5 * number}' "
            f"fill='#0a6ebd'><title>{_PERCENTILES[key]}: {value:.3f} ms</title></circle>"
            for number, (key, value) in enumerate(zip(keys, values, strict=True))
        )
        name = escape(f"{row.get('target', '')} {row.get('name', '')}".strip())
        end = left + values[-1] * scale
        drawn.append(
            f"<text x='0' y='{y + 4}'>{name}</text>"
            f"<line class='axis' x1='{left + values[0] * scale:.1f}' y1='{y}' "
            f"x2='{end:.1f}' y2='{y}'/>{marks}"
            f"<text x='{end + 8:.1f}' y='{y + 4}'>"
            f"{' / '.join(f'{value:.2f}' for value in values)} ms</text>"
        )
    height = step * len(known) + 10
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img'>{''.join(drawn)}</svg>"


def _timed(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row.get("p50_ms") is not None]


def _drawn(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the percentiles that every row has; the median at least."""
    return ["p50_ms", *(key for key in _HIGH if all(row.get(key) is not None for row in rows))]


def sensitivity_picture(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Draw each block's error for a millisecond saved; empty without blocks.

    Args:
        blocks: Rows of ``sensitivity`` in a search's report.
    """
    if not blocks:
        return ""
    step = 24
    largest = max(float(row["error_per_ms"]) for row in blocks) or 1.0
    drawn = []
    for index, row in enumerate(blocks):
        nodes = row["nodes"]
        name = nodes[0] if len(nodes) == 1 else f"{nodes[0]} … {nodes[-1]}"
        if len(name) > 48:
            name = f"…{name[-47:]}"
        width = (_WIDTH - 400) * float(row["error_per_ms"]) / largest
        y = 4 + step * index
        drawn.append(
            f"<text x='0' y='{y + 14}'>{escape(name)}</text>"
            f"<rect class='bar' x='300' y='{y}' width='{width:.1f}' height='16'/>"
            f"<text x='{306 + width:.1f}' y='{y + 14}'>{float(row['error']):.2g} error, "
            f"{float(row['saved_ms']):.2g} ms</text>"
        )
    return (
        f"<svg viewBox='0 0 {_WIDTH + 60} {step * len(blocks) + 10}' role='img'>"
        f"{''.join(drawn)}</svg>"
    )


def _scale(values: Sequence[float], first: float, last: float) -> Any:
    low, high = min(values), max(values)
    room = (high - low) or max(abs(high), 1e-9)
    low, high = low - 0.06 * room, high + 0.06 * room

    def place(value: float) -> float:
        return first + (last - first) * (value - low) / (high - low)

    return place
