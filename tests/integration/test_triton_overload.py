"""A real server that is asked for three times what it can do: a short form, ratios alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import edgeml
from benchmarks.resilience.overload import (
    TIMES,
    Case,
    Subject,
    capacity_per_s,
    overload,
    prepare,
    row_of,
)
from edgeml.serving.installation.finding import Installation
from edgeml.serving.server.serve import TritonServer

pytestmark = pytest.mark.triton

_SECONDS = 2.0
_TRIES = 3  # a neighbour may take the machine from one of two runs that are compared
_BARE = Case(name="nothing", model="plain")
_BOUND = Case(name="bound", model="levels")
_LIMIT = Case(name="limit", model="plain", limited=True, priorities=True)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(tmp_path_factory.mktemp("overload"), layers=12, only=("plain", "levels"))


@pytest.fixture(scope="module")
def overloaded(triton: Installation, subject: Subject) -> Iterator[TritonServer]:
    with edgeml.serve_triton(subject.repository, supervised=False) as server:
        yield server


def test_under_overload_a_limit_and_a_bound_keep_goodput_and_refuse_at_once(
    overloaded: TritonServer, subject: Subject
) -> None:
    for number in range(_TRIES):
        capacity = capacity_per_s(overloaded, subject, seconds=1.0)
        bare, bound, limited = (
            _run(overloaded, subject, case, capacity) for case in (_BARE, _BOUND, _LIMIT)
        )
        for row in (bare, bound, limited):
            assert row["num_wrong"] == row["counts"]["error"] == row["counts"]["dropped"] == 0
        protected = min(bound["goodput"], limited["goodput"])
        if bare["goodput"] < 0.5 * protected or number == _TRIES - 1:
            break
    assert bare["goodput"] < 0.5 * protected
    # Refused at once: in a small share of the time that an answer takes.
    assert bound["refused_ms"]["queue-full"]["p50"] < 0.3 * bound["answered_ms"]["p50"]
    assert limited["refused_ms"]["too-late"]["p50"] < 0.3 * limited["answered_ms"]["p50"]
    share = limited["by_priority"]
    assert share["high"] > share["normal"] >= share["low"]


def _run(server: TritonServer, subject: Subject, case: Case, capacity: float) -> dict[str, Any]:
    record = overload(server, subject, case, rate_per_s=TIMES * capacity, seconds=_SECONDS)
    return row_of(record, case, subject, capacity=capacity)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_takes_priorities_over_both_protocols(
    overloaded: TritonServer, subject: Subject, scheme: str
) -> None:
    feed = {"x": subject.bundle.golden().tensors["x"][:1]}
    with edgeml.connect(getattr(overloaded, scheme), model="levels") as predictor:
        for level in ("high", "normal", "low"):
            with edgeml.priority(level), edgeml.deadline(5.0):
                assert predictor.run(feed)["y"].shape == (1, 128)
