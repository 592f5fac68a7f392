from __future__ import annotations

import pytest

from edgeml.workflows.profiling.measuring import Measurable, arrivals, common_rate
from tests.unit.workflows.profiling.made import single, subject


def target(name: str, factory: str) -> Measurable:
    return Measurable(subject=subject(name), factory=factory, options={})


def test_all_targets_get_the_same_arrivals_and_edge_queues() -> None:
    edge = arrivals(target("edge", "edge"), 50.0, 7.0, seed=3)
    server = arrivals(target("http", "http"), 50.0, 7.0, seed=3)
    assert edge.schedule.due_ns.tolist() == server.schedule.due_ns.tolist()
    assert (edge.callers, edge.when_busy) == (1, "queue")
    assert (server.callers > 8, server.when_busy) == (True, "drop")


@pytest.mark.parametrize(("rate", "count"), [(100.0, 700), (50.0, 662), (20.0, 280), (1.0, 50)])
def test_a_run_is_long_enough_for_a_p99_where_that_is_not_too_long(rate: float, count: int) -> None:
    assert len(arrivals(target("edge", "edge"), rate, 7.0, seed=0).schedule) == count


def test_the_rate_that_nobody_asked_for_is_one_that_the_slowest_bears() -> None:
    rows = [single("edge", 2.0), single("http", 20.0)]
    assert common_rate(rows) == pytest.approx(20.0, rel=0.01)
    assert common_rate([single("edge", 0.1)]) == 200.0
