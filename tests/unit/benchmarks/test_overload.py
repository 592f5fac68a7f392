"""The figures of an overload, from a record that is written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.resilience.convolutions import item_seconds, make_bundle
from benchmarks.resilience.overload import Case, Subject, prepare, row_of
from edgeml.bench.record import Outcome, Record
from edgeml.serving.repository.config import describe, parse_config

_MS = 1_000_000


def _record(**facts: Any) -> Record:
    """Return eleven queries, one each 10 ms: five in time, two too late, the others refused."""
    due = np.arange(11) * 10 * _MS
    took_ms = np.array([50] * 5 + [150] * 2 + [1] * 4)
    outcome = np.array([Outcome.OK] * 7 + [Outcome.REFUSED] * 4, dtype=np.uint8)
    values: dict[str, Any] = {
        "due_ns": due,
        "sent_ns": due,
        "done_ns": due + took_ms * _MS,
        "lag_ns": np.zeros(11, dtype=np.int64),
        "outcome": outcome,
        "scenario": "server",
        "offered_per_s": 100.0,
        "conditions": {"refused_ms": {"too-late": [1.0] * 4}, "generator_cpu_share": 0.1},
    }
    return Record(**{**values, **facts})


def _row(record: Record) -> dict[str, Any]:
    subject = Subject(bundle=None, repository=Path(), deadline_s=0.1, item_s=0.01)  # type: ignore[arg-type]
    case = Case(name="limit", model="plain", limited=True, priorities=True)
    return row_of(record, case, subject, capacity=50.0)


def test_goodput_is_what_came_within_the_deadline_as_a_share_of_the_capacity() -> None:
    row = _row(_record())
    assert row["goodput_per_s"] == pytest.approx(5 / 0.1)
    assert row["goodput"] == pytest.approx(1.0)
    assert row["times"] == pytest.approx(2.0)
    assert row["past_deadline_ms"] == pytest.approx(50.0)
    assert row["refused_ms"]["too-late"] == {"n": 4, "p50": 1.0, "p99": 1.0, "max": 1.0}
    assert set(row["by_priority"]) == {"high", "normal", "low"}
    assert row["valid"]


def test_a_run_whose_generator_was_late_or_whose_answers_were_wrong_is_invalid() -> None:
    late = _row(_record(lag_ns=np.full(11, 50 * _MS)))
    assert (late["valid"], "the generator was late" in late["reason"]) == (False, True)
    wrong = _row(_record(num_checked=7, num_wrong=1, wrong=("sample 3",)))
    assert not wrong["valid"]


def test_the_model_answers_by_its_input_and_is_published_in_each_way(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", layers=2)
    assert 0 < item_seconds(bundle) < 1
    answers = bundle.golden().outputs["fp32"]["y"]
    assert len({row.tobytes() for row in answers}) == len(answers)
    subject = prepare(tmp_path / "work", layers=1, deadline_s=0.5)
    configs = {
        path.parent.parent.name: describe(parse_config(path.read_text(encoding="utf-8")))
        for path in subject.repository.glob("*/configs/cpu.pbtxt")
    }
    assert set(configs) == {"plain", "bound", "one", "levels"}
    assert {name for name, row in configs.items() if row.rate_limited} == {"bound", "levels"}
    assert {name for name, row in configs.items() if row.takes_priority} == {"levels"}
