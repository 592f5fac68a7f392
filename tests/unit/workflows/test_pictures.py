"""The report's pictures are well-formed, whatever the names and figures."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from edgeml.workflows.pictures import (
    latency_heading,
    latency_picture,
    pareto_picture,
    sensitivity_picture,
)


def _row(name: str, p50_ms: float | None, accuracy: float | None, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "p50_ms": p50_ms,
        "accuracy": accuracy,
        "agreement": 0.9,
        "size_bytes": 1000,
        "verdict": "rejected",
        **more,
    }


def _dots(svg: str) -> list[ElementTree.Element]:
    return [row for row in ElementTree.fromstring(svg).iter() if row.tag == "circle"]


def test_a_dot_for_each_row_that_was_measured() -> None:
    rows = [
        _row("fp32", 2.0, 0.9, verdict="reference", size_bytes=4000),
        _row("int8 <&'\">", 1.0, 0.8, verdict="chosen"),
        _row("broken", None, None, size_bytes=None),
    ]
    fp32, int8 = _dots(pareto_picture(rows))
    # To the left is faster, up is better, and four times the file has twice the radius.
    assert float(fp32.get("cx", 0)) > float(int8.get("cx", 0))
    assert float(fp32.get("cy", 0)) < float(int8.get("cy", 0))
    assert float(fp32.get("r", 0)) == pytest.approx(2 * float(int8.get("r", 0)))
    assert fp32.get("fill") != int8.get("fill")
    (title,) = int8
    assert (title.text or "").startswith("int8 <&'\">: 1.000 ms")


def test_without_labels_agreement_is_the_quality() -> None:
    svg = pareto_picture([_row("fp32", 2.0, None), _row("int8", 1.0, None)])
    assert len(_dots(svg)) == 2
    assert ">agreement<" in svg


def test_one_dot_and_equal_dots_have_a_place() -> None:
    for rows in ([_row("a", 1.0, 0.5)], [_row("a", 0.0, 0.0), _row("b", 0.0, 0.0)]):
        assert len(_dots(pareto_picture(rows))) == len(rows)
        assert "nan" not in pareto_picture(rows)


def test_nothing_measured_is_no_picture() -> None:
    assert pareto_picture([]) == ""
    assert pareto_picture([_row("broken", None, None)]) == ""
    assert sensitivity_picture([]) == ""


def test_a_bar_for_each_block() -> None:
    blocks = [
        {"nodes": ["a<b"], "error": 0.5, "saved_ms": 0.1, "error_per_ms": 5.0},
        {"nodes": ["c" * 60, "d"], "error": 0.0, "saved_ms": 0.0, "error_per_ms": 0.0},
    ]
    root = ElementTree.fromstring(sensitivity_picture(blocks))
    bars = [float(row.get("width", -1)) for row in root.iter() if row.tag == "rect"]
    assert bars[0] > 0 == bars[1]
    assert all(len(row.text or "") < 60 for row in root.iter() if row.tag == "text")


TIMED = [
    {"target": "edge", "name": "fp32", "p50_ms": 2.0, "p90_ms": 2.5, "p99_ms": 4.0},
    {"target": "edge", "name": "<int8>", "p50_ms": 1.0, "p90_ms": 1.5, "p99_ms": 3.0},
    {"target": "gpu", "name": "fp16", "p50_ms": None},
]


def test_a_dot_a_percentile_for_each_row_that_was_timed() -> None:
    drawn = latency_picture(TIMED)
    assert drawn.count("class='axis'") == 2
    assert len(_dots(drawn)) == 6
    assert "2.00 / 2.50 / 4.00 ms" in drawn
    assert "1.00 / 1.50 / 3.00 ms" in drawn
    assert "&lt;int8&gt;" in drawn
    assert latency_picture(TIMED[2:]) == ""


@pytest.mark.parametrize(
    ("missing", "heading", "dots"),
    [
        ((), "median, 90th and 99th percentile", 6),
        (("p99_ms",), "median and 90th percentile", 4),
        (("p90_ms", "p99_ms"), "median", 2),
    ],
)
def test_the_heading_names_the_percentiles_that_are_drawn(
    missing: tuple[str, ...], heading: str, dots: int
) -> None:
    rows = [dict(row) for row in TIMED]
    rows[1] |= dict.fromkeys(missing)  # one row without it is enough
    assert latency_heading(rows) == heading
    drawn = latency_picture(rows)
    assert len(_dots(drawn)) == dots
    assert ("99th: " in drawn) is ("99th" in heading)
    counted = [
        {**row, "num_calls": calls} for row, calls in zip(rows, (1000, 1005, 1), strict=True)
    ]
    assert latency_heading(counted) == f"{heading} of 1,000 calls"
