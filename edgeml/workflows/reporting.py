"""A recipe's report: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from edgeml.core.files import write_json

_WIDTH, _HEIGHT, _MARGIN = 640, 220, 40
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:68rem;padding:0 1rem}
body{color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0;width:100%}
th,td{border-bottom:1px solid #d8dee4;padding:.35rem .6rem;text-align:left;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.chosen{background:#eaf6ec}svg{max-width:100%;height:auto}
.axis{stroke:#8c959f}.line{fill:none;stroke:#0a6ebd;stroke-width:2}.bar{fill:#0a6ebd}
text{font:12px system-ui,sans-serif;fill:#57606a}
"""


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table of a report's own.

    Attributes:
        title: Its heading.
        columns: Headings of its columns.
        rows: As many values each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a report's own: a heading and SVG."""

    title: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a recipe found.

    Attributes:
        recipe: Its name.
        preset: Its preset.
        source: Model and data, as JSON values.
        rows: One row a variant and target.
        metrics: The recipe's own figures.
        curve: Step to smoothed training loss, for the picture.
        tables: What else the recipe shows, such as a confusion matrix.
        pictures: What else it draws; on the page alone, since a program has the figures.
    """

    recipe: str
    preset: str
    source: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    curve: Sequence[tuple[float, float]] = ()
    tables: Sequence[ReportTable] = ()
    pictures: Sequence[Picture] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the keys of ``report.json``."""
        return {
            "recipe": self.recipe,
            "preset": self.preset,
            "source": dict(self.source),
            "rows": [dict(row) for row in self.rows],
            "metrics": dict(self.metrics),
            "tables": [table.to_json() for table in self.tables],
        }


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a report's table: a row's key, a heading, a format for numbers."""

    key: str
    heading: str
    form: str = ""
    scale: float = 1.0


COLUMNS = (
    Column(key="target", heading="target"),
    Column(key="name", heading="variant"),
    Column(key="engine", heading="engine"),
    Column(key="size_bytes", heading="MB", form=".2f", scale=1e-6),
    Column(key="accuracy", heading="accuracy", form=".4f"),
    Column(key="samples", heading="on", form=",.0f"),
    Column(key="p50_ms", heading="p50 ms", form=".3f"),
    Column(key="p90_ms", heading="p90 ms", form=".3f"),
    Column(key="speedup", heading="speedup", form=".2f"),
    Column(key="verdict", heading="verdict"),
    Column(key="reason", heading="reason"),
)


def write_report(folder: str | Path, report: Report) -> tuple[Path, Path]:
    """Write ``report.json`` and a self-contained ``report.html``.

    Args:
        folder: Where to; it is made if it is not there.
        report: What to write.

    Returns:
        The two paths.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "report.json", report.to_json())
    page = place / "report.html"
    page.write_text(render_html(report), encoding="utf-8")
    return place / "report.json", page


def cell(row: Mapping[str, Any], column: Column) -> str:
    """Return one cell of the table as text; ``-`` where nothing was measured."""
    value = row.get(column.key)
    if value is None:
        return "-"
    return format(value * column.scale, column.form) if column.form else str(value)


def render_html(report: Report) -> str:
    """Return the report as one HTML page without outside references."""
    title = escape(f"{report.recipe} ({report.preset})")
    timed = [
        (f"{row.get('target', '-')} {row.get('name', '-')}", float(row["p50_ms"]))
        for row in report.rows
        if row.get("p50_ms") is not None
    ]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>",
        _pairs("Source", report.source),
    ]
    if report.rows:
        parts.append(f"<h2>Variants and targets</h2>{_table(report)}")
    if timed:
        parts.append(f"<h2>Median latency, batch 1, ms</h2>{_bars(timed)}")
    if report.curve:
        parts.append(f"<h2>Training loss</h2>{_curve(report.curve)}")
    parts.extend(f"<h2>{escape(row.title)}</h2>{row.svg}" for row in report.pictures)
    parts.extend(_own_table(table) for table in report.tables)
    parts.append(_pairs("Metrics", report.metrics))
    return "\n".join(parts) + "\n"


def _table(report: Report) -> str:
    head = "".join(
        f"<th{_number_class(column)}>{escape(column.heading)}</th>" for column in COLUMNS
    )
    body = []
    for row in report.rows:
        mark = " class='chosen'" if row.get("verdict") == "chosen" else ""
        cells = "".join(
            f"<td{_number_class(column)}>{escape(cell(row, column))}</td>" for column in COLUMNS
        )
        body.append(f"<tr{mark}>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _own_table(table: ReportTable) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(value))}</td>" for value in row) + "</tr>"
        for row in table.rows
    )
    return f"<h2>{escape(table.title)}</h2><table><tr>{head}</tr>{body}</table>"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number_class(column: Column) -> str:
    return " class='number'" if column.form else ""


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<h2>{escape(title)}</h2><table>{rows}</table>"


def _bars(rows: Sequence[tuple[str, float]]) -> str:
    step, largest = 26, max(value for _, value in rows) or 1.0
    height = step * len(rows) + 10
    drawn = []
    for index, (name, value) in enumerate(rows):
        width = (_WIDTH - 260) * value / largest
        y = 6 + step * index
        drawn.append(
            f"<text x='0' y='{y + 14}'>{escape(name)}</text>"
            f"<rect class='bar' x='170' y='{y}' width='{width:.1f}' height='18'/>"
            f"<text x='{176 + width:.1f}' y='{y + 14}'>{value:.3f}</text>"
        )
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img'>{''.join(drawn)}</svg>"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    last = max(x for x, _ in points) or 1.0
    top = max(y for _, y in points) or 1.0
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    path = " ".join(
        f"{_MARGIN + width * x / last:.1f},{_HEIGHT - _MARGIN - height * y / top:.1f}"
        for x, y in points
    )
    base = _HEIGHT - _MARGIN
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>"
        f"<line class='axis' x1='{_MARGIN}' y1='{base}' x2='{_WIDTH - _MARGIN}' y2='{base}'/>"
        f"<line class='axis' x1='{_MARGIN}' y1='{_MARGIN}' x2='{_MARGIN}' y2='{base}'/>"
        f"<text x='4' y='{_MARGIN}'>{top:.2f}</text><text x='4' y='{base}'>0</text>"
        f"<text x='{_WIDTH - _MARGIN - 60}' y='{base + 18}'>step {last:.0f}</text>"
        f"<polyline class='line' points='{path}'/></svg>"
    )


__all__ = [
    "COLUMNS",
    "STYLE",
    "Column",
    "Report",
    "ReportTable",
    "cell",
    "render_html",
    "write_report",
]
