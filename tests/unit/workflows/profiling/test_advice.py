"""The recommendation on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.workflows.profiling.advice import Service, candidates_of
from edgeml.workflows.profiling.recommending import recommend
from edgeml.workflows.profiling.rows import Row, make_row
from edgeml.workflows.profiling.settings import ServiceLevel
from edgeml.workflows.profiling.stages import Breakdown
from tests.unit.workflows.profiling.made import record, single, subject


def breakdown(target: str, infer_ms: float) -> Breakdown:
    return Breakdown(target=target, stages_ms={"compute_in": 0.0, "infer": infer_ms,
                     "compute_out": 0.0}, total_ms=infer_ms, num_calls=1)  # fmt: skip


def advise(rows: list[Row], level: ServiceLevel, **own_ms: float) -> dict:
    parts = {name.replace("_", "-"): value for name, value in own_ms.items()}
    services = {
        row.subject.target: Service.of(
            row,
            breakdown(row.subject.target, parts[row.subject.target])
            if row.subject.target in parts
            else None,
        )
        for row in rows
        if row.scenario == "single-stream"
    }
    memory = {"edge": 80.0, "triton-grpc": 300.0}
    return recommend(candidates_of(rows, level, services=services, memory_mb=memory), level)


def test_without_bounds_the_fastest_valid_row_wins() -> None:
    found = advise([single("edge", 1.0), single("triton-grpc", 2.0)], ServiceLevel())
    assert (found["target"], found["margin"]) == ("edge", None)
    assert "no bound was given" in found["reason"]


def test_edge_is_enough_where_it_keeps_the_bounds() -> None:
    level = ServiceLevel(p99_ms=20, rate_per_s=50)
    found = advise([single("edge", 2.0), single("triton-grpc", 1.9)], level)
    assert (found["target"], found["kept"]) == ("edge", True)
    assert 0.7 < found["margin"] < 0.95
    assert "no server is needed" in found["reason"]
    assert any("no longer keeps" in line for line in found["changes"])


def test_the_server_is_recommended_where_edge_misses_and_it_is_labelled() -> None:
    # In-process 20 ms each at 60 a second never keeps up; the server's own part is 4 ms.
    rows = [single("edge", 20.0), single("triton-grpc", 6.0)]
    found = advise(rows, ServiceLevel(p99_ms=30, rate_per_s=60), triton_grpc=4.0)
    assert (found["target"], found["kind"], found["kept"]) == ("triton-grpc", "modelled", True)
    assert any("round trip" in need for need in found["needs"])
    assert "edge misses p99" in found["reason"]


def test_a_remote_row_is_measured_and_not_modelled() -> None:
    loaded = make_row(
        subject("triton-grpc", placement="remote"),
        [record([5.0] * 1000, scenario="server", offered_per_s=60.0)],
    )
    rows = [single("triton-grpc", 5.0, placement="remote"), loaded]
    found = advise(rows, ServiceLevel(p99_ms=30, rate_per_s=60))
    assert (found["kind"], found["needs"]) == ("measured", [])


@pytest.mark.parametrize(
    ("level", "missed"),
    [
        (ServiceLevel(p99_ms=0.5), "p99"),
        (ServiceLevel(min_accuracy=0.95), "accuracy"),
        (ServiceLevel(max_memory_mb=50), "memory"),
        (ServiceLevel(rate_per_s=5000), "the rate"),
    ],
)
def test_a_bound_that_nothing_keeps_is_said(level: ServiceLevel, missed: str) -> None:
    found = advise([single("edge", 2.0)], level)
    assert (found["target"], found["kept"]) == ("edge", False)
    assert found["margin"] < 0
    assert f"it misses {missed}" in found["reason"]


def test_memory_decides_between_targets() -> None:
    level = ServiceLevel(p99_ms=50, max_memory_mb=100)
    found = advise([single("edge", 2.0), single("triton-grpc", 2.0)], level)
    assert found["target"] == "edge"


def test_invalid_rows_are_no_candidates() -> None:
    wrong = make_row(subject("edge"), [record([1.0] * 200, num_wrong=1)])
    found = advise([wrong, single("triton-grpc", 2.0)], ServiceLevel())
    assert found["target"] == "triton-grpc"
    nothing = advise([wrong], ServiceLevel())
    assert (nothing["target"], nothing["margin"]) == (None, None)
    assert "nothing can be recommended" in nothing["reason"]


def test_on_a_machine_that_is_not_quiet_the_advice_is_provisional() -> None:
    runs = [record([1.0] * 200), record([2.0] * 200)]
    found = advise([make_row(subject("edge"), runs)], ServiceLevel())
    assert (found["target"], found["provisional"]) == ("edge", True)
    assert found["reason"].startswith("provisional, since its row is invalid")


def test_a_disturbed_row_is_not_a_reason_to_recommend_another() -> None:
    runs = [record([1.0] * 200), record([2.0] * 200)]
    rows = [make_row(subject("edge"), runs), single("triton-grpc", 6.0)]
    found = advise(rows, ServiceLevel())
    assert [row.valid for row in rows] == [False, True]
    assert (found["target"], found["provisional"]) == ("edge", True)


def test_only_the_servers_own_part_queues() -> None:
    service = Service.of(single("triton-grpc", 6.0), breakdown("triton-grpc", 4.0))
    assert np.median(service.queued_ms) == pytest.approx(4.0, rel=0.02)
    assert service.around_ms == pytest.approx(2.0, rel=0.02)
    assert service.capacity_per_s == pytest.approx(250, rel=0.02)
    assert 0 < service.highest_rate(20.0) < 250
    assert service.highest_rate(3.0) == 0
    rates = [p99 for _, p99 in service.curve()]
    assert rates[-1] > rates[0]
