"""The page is one file, and what a bundle is called cannot become markup."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgeml.workflows.profiling.advice import Service, candidates_of
from edgeml.workflows.profiling.conditions import append_history, history_entry
from edgeml.workflows.profiling.page import render
from edgeml.workflows.profiling.recommending import recommend
from edgeml.workflows.profiling.settings import ServiceLevel, settings_of
from tests.unit.workflows.profiling.made import single


@pytest.fixture
def report() -> dict[str, Any]:
    rows = [single("edge", 2.0), single("triton-grpc", 3.0)]
    level = ServiceLevel(p99_ms=20, rate_per_s=50)
    services = {row.subject.target: Service.of(row, None) for row in rows}
    found = candidates_of(rows, level, services=services, memory_mb={})
    return {
        "rows": [row.to_json() for row in rows],
        "recommendation": recommend(found, level),
        "breakdown": [
            {"target": "edge", "stages_ms": {"decode": 1.0, "queue": None}, "notes": ["a note"]}
        ],
        "curves": {name: {"points": service.curve()} for name, service in services.items()},
        "highest_rates": {},
        "footprint": {"rss_mb": 80.0},
        "memory_mb": {"edge": None},
        "servers_start_s": {},
        "conditions": {
            "artefact": {"bundle": "<script>alert(1)</script>"},
            "host": {"cpu": "x"},
            "date": "today",
            "host_fingerprint": "abc",
            "versions": {},
        },
        "settings": settings_of("quick").to_json(),
    }


def test_nothing_on_the_page_comes_from_elsewhere_or_runs(report: dict[str, Any]) -> None:
    page = render(report)
    assert "<script" not in page
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://""", page)
    assert page.count("<svg") == 3
    for words in ("energy", "not measured", "modelled", "&lt;script&gt;", "Conditions", "a note"):
        assert words in page


def test_an_invalid_row_is_shown_as_such(report: dict[str, Any]) -> None:
    report["rows"][0].update(valid=False, reason="the generator was late")
    page = render(report)
    assert ">INVALID</td>" in page
    assert "edge, single-stream: the generator was late" in page


def test_history_only_grows(report: dict[str, Any], tmp_path) -> None:
    place = tmp_path / "history.jsonl"
    append_history(place, history_entry(report))
    first = place.read_text()
    append_history(place, history_entry(report))
    lines = place.read_text()
    assert lines.startswith(first)
    assert lines.count("\n") == 2
    assert "host_fingerprint" in lines
    assert "response_ms" not in lines
