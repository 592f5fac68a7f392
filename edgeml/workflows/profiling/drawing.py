"""Pictures of a profile as SVG text: curves over two axes, and stacked bars. No script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 300, 56, 190, 12, 40
# Told apart with any colour vision, and by their dashes besides.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 2")
_BAR, _STEP, _NAME = 22, 34, 150

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        title: What it shows, with its unit.
        low: Its beginning.
        high: Its end.
        logarithmic: Whether equal steps are equal ratios.
    """

    title: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Return round values on it."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 2 else (1,)
            every = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            rough = (self.high - self.low) / 5 or 1.0
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough)
            every = [
                number * step
                for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            ]
        return [value for value in every if self.low <= value <= self.high]


def curves(
    lines: Mapping[str, Points],
    *,
    across: Axis,
    up: Axis,
    marks: Mapping[str, Points] | None = None,
    bound: float | None = None,
) -> str:
    """Draw named lines over two axes.

    Args:
        lines: Name to points.
        across: The horizontal axis.
        up: The vertical one.
        marks: Name to points that are drawn as circles: what was measured beside a model.
        bound: A value of the vertical axis to draw a line at.
    """
    drawn = [*_frame(across, up)]
    if bound is not None and up.low < bound < up.high:
        y = _y(up, bound)
        drawn.append(
            f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{WIDTH - _RIGHT}' y2='{y:.1f}' "
            "stroke='#b00020' stroke-dasharray='3 3'/>"
        )
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = _DASHES[number % len(_DASHES)]
        path = " ".join(f"{_x(across, x):.1f},{_y(up, y):.1f}" for x, y in points)
        drawn.append(
            f"<polyline fill='none' stroke='{colour}' stroke-width='2' "
            f"stroke-dasharray='{dash}' points='{path}'/>"
        )
        drawn += [
            f"<circle cx='{_x(across, x):.1f}' cy='{_y(up, y):.1f}' r='4' fill='{colour}'/>"
            for x, y in (marks or {}).get(name, ())
        ]
        y = _TOP + 14 + 20 * number
        drawn.append(
            f"<line x1='{WIDTH - _RIGHT + 14}' y1='{y - 4}' x2='{WIDTH - _RIGHT + 44}' "
            f"y2='{y - 4}' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>"
            f"<text x='{WIDTH - _RIGHT + 50}' y='{y}'>{escape(name)}</text>"
        )
    return f"<svg viewBox='0 0 {WIDTH} {_HEIGHT}' role='img'>{''.join(drawn)}</svg>"


def stacked(rows: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """Draw one bar a row, its parts side by side, with a legend.

    Args:
        rows: Name to part to value.
        unit: Of the values.
    """
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
    most = max((sum(parts.values()) for parts in rows.values()), default=0.0) or 1.0
    room, drawn = WIDTH - _NAME - 90, []
    for number, (row, parts) in enumerate(rows.items()):
        y, x = 4 + _STEP * number, float(_NAME)
        drawn.append(f"<text x='0' y='{y + 15}'>{escape(row)}</text>")
        for name, value in parts.items():
            width = room * value / most
            drawn.append(
                f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{_BAR}' "
                f"fill='{colours[name]}'><title>{escape(name)} {value:.3g} {unit}</title></rect>"
            )
            x += width
        drawn.append(f"<text x='{x + 6:.1f}' y='{y + 15}'>{sum(parts.values()):.3g} {unit}</text>")
    base = 4 + _STEP * len(rows) + 12
    for at, name in enumerate(names):
        x, y = _NAME * (at % 4), base + 20 * (at // 4)
        drawn.append(
            f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{colours[name]}'/>"
            f"<text x='{x + 18}' y='{y}'>{escape(name)}</text>"
        )
    height = base + 20 * math.ceil(len(names) / 4)
    return f"<svg viewBox='0 0 {WIDTH} {height}' role='img'>{''.join(drawn)}</svg>"


def _frame(across: Axis, up: Axis) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, WIDTH - _RIGHT
    drawn = [
        f"<line class='axis' x1='{_LEFT}' y1='{bottom}' x2='{right}' y2='{bottom}'/>",
        f"<line class='axis' x1='{_LEFT}' y1='{_TOP}' x2='{_LEFT}' y2='{bottom}'/>",
        f"<text x='{(_LEFT + right) / 2:.0f}' y='{_HEIGHT - 6}' text-anchor='middle'>"
        f"{escape(across.title)}</text>",
        f"<text x='14' y='{(_TOP + bottom) / 2:.0f}' text-anchor='middle' "
        f"transform='rotate(-90 14 {(_TOP + bottom) / 2:.0f})'>{escape(up.title)}</text>",
    ]
    for value in across.ticks():
        x = _x(across, value)
        drawn.append(
            f"<line class='grid' x1='{x:.1f}' y1='{_TOP}' x2='{x:.1f}' y2='{bottom}'/>"
            f"<text x='{x:.1f}' y='{bottom + 15}' text-anchor='middle'>{value:g}</text>"
        )
    for value in up.ticks():
        y = _y(up, value)
        drawn.append(
            f"<line class='grid' x1='{_LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}'/>"
            f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{value:g}</text>"
        )
    return drawn


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (WIDTH - _RIGHT - _LEFT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * axis.share(value)
