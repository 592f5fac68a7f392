"""A report: the documented keys for programs, and a page that no name can break out of."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import edgeml
from edgeml.workflows.reporting import COLUMNS, cell, render_html

ROW = {
    "target": "edge",
    "name": "int8",
    "size_bytes": 3_900_000,
    "accuracy": 0.91234,
    "p50_ms": 0.5,
    "p90_ms": 0.75,
    "speedup": 1.8,
    "verdict": "chosen",
    "reason": "1.80x [1.75, 1.85]",
}
SCRIPT = "<script>alert('x')</script>"


def _report(**options: Any) -> edgeml.Report:
    values: dict[str, Any] = {
        "recipe": "clothing",
        "preset": "quick",
        "source": {"model": "lite0"},
        "rows": [ROW],
        "metrics": {"seconds": 3},
        **options,
    }
    return edgeml.Report(**values)


class _Tags(HTMLParser):
    """Counts what a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        assert not any(name in ("src", "href", "onerror") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_programs_get_the_documented_keys(tmp_path: Path) -> None:
    file, page = edgeml.write_report(tmp_path / "new/place", _report())
    assert (file.name, page.name) == ("report.json", "report.html")
    value = json.loads(file.read_text())
    assert list(value) == ["recipe", "preset", "source", "rows", "metrics", "tables"]
    assert value["rows"] == [ROW]


def test_people_get_the_figures() -> None:
    found = _Tags(render_html(_report(curve=[(20, 1.5), (40, 0.5)])))
    text = " ".join(found.text)
    for figure in ("3.90", "0.9123", "0.500", "0.750", "1.80", "1.80x [1.75, 1.85]", "step 40"):
        assert figure in text
    assert found.tags.count("svg") == 2


def test_the_chosen_row_and_no_other_is_marked() -> None:
    other = {**ROW, "verdict": "rejected"}
    page = render_html(_report(rows=[other, ROW, other]))
    assert page.count("<tr class='chosen'>") == 1


def test_no_name_breaks_out_of_the_page() -> None:
    row = {**ROW, "target": SCRIPT, "name": SCRIPT, "reason": SCRIPT, "verdict": SCRIPT}
    page = render_html(
        _report(
            recipe=SCRIPT,
            preset=SCRIPT,
            source={SCRIPT: SCRIPT},
            metrics={SCRIPT: {"deep": SCRIPT}},
            rows=[row],
        )
    )
    assert "script" not in _Tags(page).tags
    assert "<script" not in page


def test_what_was_not_measured_is_a_dash() -> None:
    row = {"target": "triton-grpc", "p50_ms": None}
    assert [cell(row, column) for column in COLUMNS] == ["triton-grpc", *["-"] * (len(COLUMNS) - 1)]
    page = render_html(_report(rows=[ROW, row]))
    assert _Tags(page).tags.count("rect") == 1


def test_a_report_of_nothing_is_a_page_still(tmp_path: Path) -> None:
    edgeml.write_report(tmp_path, _report(rows=[], metrics={}))
    zero = _report(rows=[{**ROW, "p50_ms": 0.0}], curve=[(0, 0.0)])
    assert "nan" not in render_html(zero)
