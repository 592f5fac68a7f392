"""The page of a profile: one file, no outside references, nothing that runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edgeml.workflows.profiling.drawing import Axis, curves, stacked
from edgeml.workflows.reporting import STYLE, Column, cell

_STYLE = f"""{STYLE}
.grid{{stroke:#e6e9ed}}tr.invalid td{{color:#8c959f}}tr.chosen td{{font-weight:600}}
.advice{{border-left:4px solid #2da44e;padding:.4rem 1rem;background:#f4faf5}}
body{{max-width:80rem}}.wide{{overflow-x:auto;font-size:13px}}
.wide td{{white-space:nowrap;padding:.35rem .4rem}}
.note{{color:#57606a;font-size:13px}}
"""
_COLUMNS = (
    Column(key="target", heading="target"),
    Column(key="scenario", heading="scenario"),
    Column(key="placement", heading="placement"),
    Column(key="variant", heading="variant"),
    Column(key="threads", heading="threads", form=".0f"),
    Column(key="batch", heading="batch", form=".0f"),
    Column(key="accuracy", heading="accuracy", form=".4f"),
    Column(key="size_bytes", heading="MB", form=".2f", scale=1e-6),
    Column(key="p50_ms", heading="p50 ms", form=".3f"),
    Column(key="p90_ms", heading="p90 ms", form=".3f"),
    Column(key="p99_ms", heading="p99 ms", form=".3f"),
    Column(key="throughput_per_s", heading="a second", form=".1f"),
    Column(key="errors", heading="errors", form=".0f"),
    Column(key="energy", heading="energy"),
    Column(key="verdict", heading="valid"),
)


def write_page(place: Path, report: Mapping[str, Any]) -> None:
    """Write the page of a report."""
    place.write_text(render(report), encoding="utf-8")


def render(report: Mapping[str, Any]) -> str:
    """Return the page."""
    artefact = report["conditions"]["artefact"]
    title = escape(f"{artefact['bundle']}: deployments side by side")
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        _advice(report["recommendation"]),
        "<h2>Targets and scenarios</h2>",
        _table(report["rows"], report["recommendation"]["target"]),
        "<p class='note'>Latency is the response time: from when a request was due to its answer. "
        "A dash stands where too few requests support a percentile, or where it has none. "
        "Rows of servers on this machine share its processors with the load generator.</p>",
        *_ecdfs(report["rows"]),
        _rates(report),
        _stages(report["breakdown"]),
        _floors(report["rows"]),
        _candidates(report["recommendation"]["candidates"]),
    ]
    if report["footprint"]:
        parts.append(_pairs("Cold start and footprint (edge)", report["footprint"]))
    parts.append(_pairs("Memory of what answers, MB", report["memory_mb"]))
    parts.append(_pairs("Conditions", _flat(report["conditions"])))
    parts.append(_pairs("Settings", report["settings"]))
    return "\n".join(parts) + "\n"


def _advice(found: Mapping[str, Any]) -> str:
    margin = found["margin"]
    left = f" Margin: {100 * margin:.0f} % of the tightest bound." if margin is not None else ""
    lines = [*found["changes"], *(f"not known here: {need}" for need in found["needs"])]
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        f"<div class='advice'><p><b>{escape(str(found['target']))}</b>. "
        f"{escape(found['reason'])}.{left}</p><ul>{listed}</ul></div>"
    )


def _table(rows: Sequence[Mapping[str, Any]], chosen: str | None) -> str:
    head = "".join(f"<th{_number(column)}>{column.heading}</th>" for column in _COLUMNS)
    body = []
    for row in rows:
        verdict = "yes" if row["valid"] else "INVALID"
        verdict = "unstable" if row["valid"] and row["stable"] is False else verdict
        shown = {**row, "verdict": verdict, "energy": "not measured"}
        kind = "" if row["valid"] else " class='invalid'"
        if row["valid"] and row["target"] == chosen:
            kind = " class='chosen'"
        cells = "".join(
            f"<td{_number(column)}>{escape(cell(shown, column))}</td>" for column in _COLUMNS
        )
        body.append(f"<tr{kind}>{cells}</tr>")
    reasons = "".join(
        f"<li>{escape(row['target'])}, {escape(row['scenario'])}: {escape(row['reason'])}</li>"
        for row in rows
        if row["reason"]
    )
    listed = f"<ul class='note'>{reasons}</ul>" if reasons else ""
    return f"<div class='wide'><table><tr>{head}</tr>{''.join(body)}</table></div>{listed}"


def _number(column: Column) -> str:
    return " class='number'" if column.form else ""


def _ecdfs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        lines = {
            row["target"]: _ecdf(row["response_ms"])
            for row in rows
            if row["scenario"] == scenario and row["response_ms"]
        }
        if not lines:
            continue
        values = [x for points in lines.values() for x, _ in points]
        across = Axis(
            title="response, ms",
            low=max(min(values), 1e-3),
            high=max(max(values), 2e-3),
            logarithmic=True,
        )
        up = Axis(title="share of answers", low=0.0, high=1.0)
        parts.append(f"<h2>Latency, {escape(scenario)}: share of answers within a time</h2>")
        parts.append(curves(lines, across=across, up=up))
    return parts


def _ecdf(values: Sequence[float]) -> list[tuple[float, float]]:
    last = max(1, len(values) - 1)
    return [(max(value, 1e-3), at / last) for at, value in enumerate(values)]


def _rates(report: Mapping[str, Any]) -> str:
    lines = {
        name: [(rate, p99) for rate, p99 in row["points"]]
        for name, row in report["curves"].items()
        if row["points"]
    }
    if not lines:
        return ""
    marks: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for row in report["rows"]:
        if row["offered_per_s"] and row["p99_ms"] and row["target"] in marks and row["valid"]:
            marks[row["target"]].append((row["offered_per_s"], row["p99_ms"]))
    for name, search in report["highest_rates"].items():
        marks.setdefault(name, []).extend(
            (row["rate_per_s"], row["p99_ms"]) for row in search["tried"] if row["p99_ms"]
        )
    points = [point for some in (*lines.values(), *marks.values()) for point in some]
    across = Axis(
        title="requests a second",
        low=min(x for x, _ in points),
        high=max(x for x, _ in points),
        logarithmic=True,
    )
    up = Axis(
        title="p99 of the response, ms",
        low=max(min(y for _, y in points), 1e-3),
        high=max(y for _, y in points),
        logarithmic=True,
    )
    bound = report["recommendation"]["asked"]["p99_ms"]
    return (
        "<h2>Rate against p99</h2>"
        + curves(lines, across=across, up=up, marks=marks, bound=bound)
        + "<p class='note'>Lines: <b>modelled</b> from service times measured one at a time, one "
        "server, Poisson arrivals, no network. Circles: measured here, on shared processors.</p>"
    )


def _stages(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    parts = {
        row["target"]: {name: value for name, value in row["stages_ms"].items() if value}
        for row in rows
    }
    notes = "".join(
        f"<li>{escape(row['target'])}: {escape('; '.join(row['notes']))}</li>" for row in rows
    )
    return (
        "<h2>Where the time of one answer goes (means, one caller)</h2>"
        f"{stacked(parts, unit='ms')}<ul class='note'>{notes}</ul>"
    )


def _floors(rows: Sequence[Mapping[str, Any]]) -> str:
    floors = {row["target"]: row["floor"] for row in rows}
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(floor['client'])}</td>"
        f"<td>{escape(floor['server'])}</td><td class='number'>{_figure(floor['p50_us'])}</td>"
        f"<td>{escape(floor['reason'])}</td></tr>"
        for name, floor in floors.items()
    )
    return (
        "<h2>Floors: what the clients cost by themselves</h2><table><tr><th>target</th>"
        "<th>client</th><th>against</th><th class='number'>p50 µs</th><th></th></tr>"
        f"{lines}</table>"
    )


def _candidates(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td>{escape(row['target'])}</td><td>{row['kind']}</td>"
        f"<td class='number'>{_figure(row['p50_ms'])}</td>"
        f"<td class='number'>{_figure(row['p99_ms'])}</td>"
        f"<td class='number'>{_figure(row['highest_rate_per_s'])}</td>"
        f"<td class='number'>{_figure(row['memory_mb'])}</td>"
        f"<td>{escape('; '.join(row['needs']))}</td></tr>"
        for row in rows
    )
    return (
        "<h2>Candidates under the asked load</h2><table><tr><th>target</th><th>kind</th>"
        "<th class='number'>p50 ms</th><th class='number'>p99 ms</th>"
        "<th class='number'>highest rate in the bound (modelled)</th>"
        f"<th class='number'>memory MB</th><th>what the model lacks</th></tr>{lines}</table>"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: json.dumps(value) if isinstance(value, (dict, list)) else str(value)
        for name, value in values.items()
    }


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(_text(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<h2>{escape(title)}</h2><table>{rows}</table>"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
