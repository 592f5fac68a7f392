"""A real server that is asked for three times what it can do: short forms, ratios alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import edgeml
from benchmarks.resilience.overload import (
    CASES,
    TIMES,
    Subject,
    capacity_per_s,
    overload,
    prepare,
    row_of,
)
from edgeml.serving.installation.finding import Installation
from edgeml.serving.server.serve import TritonServer

pytestmark = pytest.mark.triton

_SECONDS = 1.5


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(tmp_path_factory.mktemp("overload"), layers=16, deadline_s=0.3)


@pytest.fixture(scope="module")
def overloaded(triton: Installation, subject: Subject) -> Iterator[TritonServer]:
    with edgeml.serve_triton(subject.repository, supervised=False) as server:
        yield server


def test_under_overload_a_limit_and_a_bound_keep_goodput_and_refuse_at_once(
    overloaded: TritonServer, subject: Subject
) -> None:
    capacity = capacity_per_s(overloaded, subject, seconds=1.0)
    rows = {}
    for case in CASES:
        if case.name in ("nothing", "bound", "limit, priorities"):
            rate_per_s = TIMES * capacity
            record = overload(overloaded, subject, case, rate_per_s=rate_per_s, seconds=_SECONDS)
            rows[case.name] = row_of(record, case, subject, capacity=capacity)
    bare, bound, limited = rows["nothing"], rows["bound"], rows["limit, priorities"]
    # A suite shares its machine: what is asserted are ratios, far from what a quiet one shows.
    assert bare["goodput"] < 0.5 * min(bound["goodput"], limited["goodput"])
    assert min(bound["goodput"], limited["goodput"]) > 0.4
    for row in rows.values():
        assert row["num_wrong"] == row["counts"]["error"] == 0
    # Refused at once: in a small share of the time that an answer takes.
    assert bound["refused_ms"]["queue-full"]["p50"] < 0.2 * bound["answered_ms"]["p50"]
    assert limited["refused_ms"]["too-late"]["p50"] < 0.2 * limited["answered_ms"]["p50"]
    share = limited["by_priority"]
    assert share["high"] > 2 * share["low"]
    assert share["high"] >= share["normal"] >= share["low"]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_takes_priorities_over_both_protocols(
    overloaded: TritonServer, subject: Subject, scheme: str
) -> None:
    feed = {"x": subject.bundle.golden().tensors["x"][:1]}
    with edgeml.connect(getattr(overloaded, scheme), model="levels") as predictor:
        for level in ("high", "normal", "low"):
            with edgeml.priority(level), edgeml.deadline(5.0):
                assert predictor.run(feed)["y"].shape == (1, 128)
