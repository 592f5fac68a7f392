"""Floors: each client has one, measured; and a report cannot be made without."""

from __future__ import annotations

import pytest

from edgeml.bench.floors import measure_floor, null_floor
from edgeml.bench.targets import TargetSpec
from edgeml.errors import InputError


@pytest.mark.parametrize("client", ["in-process", "raw-http", "raw-grpc"])
def test_a_client_has_a_floor(client: str) -> None:
    floor = null_floor(client, seconds=0.2)
    assert floor.client == client
    assert floor.p50_us is not None
    assert floor.p99_us is not None
    assert 0 < floor.p50_us <= floor.p99_us
    assert floor.num_queries >= 100
    assert floor.reason == ""
    assert floor.to_json()["p50_us"] == floor.p50_us


def test_the_floors_are_in_the_order_of_what_the_clients_do() -> None:
    for _ in range(4):
        floors = [
            null_floor(client, seconds=0.3) for client in ("in-process", "raw-http", "raw-grpc")
        ]
        values = [floor.p50_us or 0.0 for floor in floors]
        if values == sorted(values):
            break
    assert values == sorted(values)


def test_a_client_whose_calls_fail_has_no_floor() -> None:
    spec = TargetSpec(factory="tests.unit.bench.targets:failing")
    with pytest.raises(Exception, match="full"):  # the warm-up says so at once
        measure_floor(spec, server="none", seconds=0.1)


def test_an_unknown_client_is_refused() -> None:
    with pytest.raises(InputError, match="raw-grpc"):
        null_floor("carrier-pigeon")
