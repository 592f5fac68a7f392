"""A limit before a modelled server that is asked for three times what it can do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serving.admission.simulated import Client, Overload


def _goodput(world: Overload, clients: list[Client]) -> float:
    """Return answers within the deadline, as a share of what the server can do."""
    good = sum(len(client.answered) for client in clients)
    return good * world.service_s / world.seconds


@pytest.mark.parametrize(
    "facts",
    [{}, {"batch": 4}, {"jitter": 0.4}, {"times": 10.0}, {"deadline_s": 0.03}, {"clients": 3}],
    ids=["one by one", "batches", "uneven", "ten times", "short deadline", "three clients"],
)
def test_a_server_keeps_its_capacity_under_overload(facts: dict[str, Any]) -> None:
    world = Overload(**facts)
    clients = world.run()
    assert _goodput(world, clients) >= 0.93
    for client in clients:
        assert max(client.answered) <= world.deadline_s
        assert all(waited_s <= world.deadline_s for waited_s in client.refused_later)
        assert len(client.refused_later) < 0.2 * client.refused_at_once


def test_without_a_margin_before_the_deadline_the_limit_is_cut_when_it_is_too_late() -> None:
    careless = Overload(slow_share=0.999)
    careful = Overload()
    assert _goodput(careless, careless.run()) < _goodput(careful, careful.run()) - 0.1


def test_below_capacity_nobody_is_refused() -> None:
    world = Overload(times=0.6)
    (client,) = world.run()
    assert client.refused_at_once == client.missed == 0
    assert not client.refused_later


def test_two_clients_of_one_server_come_to_similar_shares() -> None:
    world = Overload(clients=2, seconds=20.0)
    one, two = (len(client.answered) for client in world.run())
    assert max(one, two) < 1.3 * min(one, two)
