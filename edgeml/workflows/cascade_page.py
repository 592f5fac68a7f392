"""A cascade's curve for people: two tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeml.core.escalation import EscalationPoint
from edgeml.workflows.reporting import ReportTable

if TYPE_CHECKING:
    from edgeml.workflows.cascades import CascadeCurve

_COLUMNS = ("threshold", "escalated", "accuracy", "drop", "95 % bound", "mean ms", "p90 ms", "cost")
_STEP = 0.05
_WIDTH, _HEIGHT, _MARGIN = 640, 260, 48


def curve_table(curve: CascadeCurve) -> ReportTable:
    """Return the curve in steps of the share; the chosen point is always among them."""
    return ReportTable(
        title=f"Thresholds ({curve.points[0].paired.num_samples} selection samples)",
        columns=_COLUMNS,
        rows=[_row(point) for point in thinned(curve.points, keep=curve.chosen)],
    )


def summary_table(curve: CascadeCurve) -> ReportTable:
    """Return both models alone and the cascade, on the selection and on the reporting samples."""
    rows: list[list[str]] = [
        ["selection", "first", f"{curve.first_accuracy:.4f}", "", f"{curve.first_ms:.3f}"],
        ["selection", "second", f"{curve.second_accuracy:.4f}", "", f"{curve.second_ms:.3f}"],
    ]
    if curve.chosen is not None:
        rows.append(["selection", "cascade", *_cells(curve.chosen)])
    if curve.reported is not None:
        found = curve.reported
        rows += [
            ["reporting", "first", f"{found.first_accuracy:.4f}", "", f"{curve.first_ms:.3f}"],
            ["reporting", "second", f"{found.second_accuracy:.4f}", "", f"{curve.second_ms:.3f}"],
            ["reporting", "cascade", *_cells(found.point)],
        ]
    columns = ["samples", "model", "accuracy", "escalated", "ms an item"]
    return ReportTable(title="Alone and together", columns=columns, rows=rows)


def thinned(
    points: Sequence[EscalationPoint], *, keep: EscalationPoint | None
) -> list[EscalationPoint]:
    """Return points about :data:`_STEP` of the share apart, both ends, and one that is kept."""
    found: list[EscalationPoint] = []
    for point in points:
        far = not found or found[-1].share - point.share >= _STEP - 1e-9
        if far or point == keep or point is points[-1]:
            found.append(point)
    return found


def curve_svg(curve: CascadeCurve) -> str:
    """Draw accuracy over the share that is escalated, with the chosen point."""
    values = [point.accuracy for point in curve.points]
    low, high = min(values), max(values)
    span = max(high - low, 1e-9)

    def place(point: EscalationPoint) -> tuple[float, float]:
        across = _MARGIN + point.share * (_WIDTH - 2 * _MARGIN)
        return across, _HEIGHT - _MARGIN - (point.accuracy - low) / span * (_HEIGHT - 2 * _MARGIN)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, curve.points))
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f'<path class="axis" fill="none" d="M{_MARGIN},{_MARGIN}V{bottom}H{right}"/>',
        f'<polyline class="line" points="{line}"/>',
        f'<text x="4" y="{_MARGIN}">{high:.4f}</text><text x="4" y="{bottom}">{low:.4f}</text>',
        f'<text x="{_MARGIN}" y="{_HEIGHT - 20}">0 %</text>',
        f'<text x="{right - 40}" y="{_HEIGHT - 20}">100 % escalated</text>',
    ]
    if curve.chosen is not None:
        x, y = place(curve.chosen)
        parts.append(f'<circle class="bar" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    return "".join([*parts, "</svg>"])


def _row(point: EscalationPoint) -> list[str]:
    return [
        f"{point.threshold:.4f}",
        f"{point.share:.1%}",
        f"{point.accuracy:.4f}",
        f"{100 * point.paired.drop:+.2f}",
        f"{100 * point.paired.upper_bound:+.2f}",
        f"{point.mean_ms:.3f}",
        f"{point.p90_ms:.3f}",
        f"{point.cost:.4g}",
    ]


def _cells(point: EscalationPoint) -> list[str]:
    share = f"{point.share:.1%} [{point.share_low:.1%}, {point.share_high:.1%}]"
    return [f"{point.accuracy:.4f}", share, f"{point.mean_ms:.3f}"]
