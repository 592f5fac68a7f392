"""A queue's bound from a deadline and the time of an item; priorities in a configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

import edgeml
from edgeml.core.bundle import write_bundle
from edgeml.errors import InputError
from edgeml.serving.client.grpc_transport import request_of
from edgeml.serving.client.served import served_from
from edgeml.serving.repository.bounds import bounded_for
from edgeml.serving.repository.config import describe, parse_config
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from tests.unit.serving.tiny_bundle import make_tiny_bundle


@pytest.mark.parametrize(
    ("deadline_s", "item_s", "most", "batch", "waiting"),
    [
        (0.1, 0.01, 1, 1, 5),  # seven are answered in 75 ms; one runs and one is next
        (0.1, 0.01, 32, 2, 3),
        (1.0, 0.01, 8, 8, 59),
        (0.1, 0.024, 32, 1, 1),
    ],
)
def test_a_lone_instance_gets_a_second_one_and_they_take_turns(
    deadline_s, item_s, most, batch, waiting
):
    given = ServingOptions(num_threads=2, max_batch_size=most, resources={"memory": 3})
    found = bounded_for(given, deadline_s=deadline_s, item_s=item_s, turn="turn-parts")
    assert (found.max_batch_size, found.max_queue_size) == (batch, waiting)
    assert (found.instances, found.num_threads, found.threads_each) == (2, 4, 2)
    assert found.resources == {"memory": 3, "turn-parts": 1}
    # It may wait so long that it is still answered in time, and no longer.
    assert waiting * item_s <= found.queue_timeout_us / 1e6 <= deadline_s - 2 * batch * item_s
    # Whoever waits last is answered in time: all before it are one batch an instance and the queue.
    assert (found.instances * batch + waiting) * item_s <= deadline_s


def test_instances_that_run_at_once_drain_the_queue_as_fast():
    given = ServingOptions(num_threads=4, instances=4, max_batch_size=1)
    found = bounded_for(given, deadline_s=0.1, item_s=0.02, turn="turn-parts")
    assert (found.instances, found.resources) == (4, {})
    assert found.max_queue_size == 15 - 4


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"item_s": 0.1}, "at least 400 ms was expected"),
        ({"deadline_s": 0.0}, "the deadline is 0 s"),
        ({"item_s": float("nan")}, "the time for one item is nan s"),
        ({"options": ServingOptions(max_queue_size=3)}, "one of the two was expected"),
        ({"options": ServingOptions(queue_timeout_us=3)}, "one of the two was expected"),
    ],
)
def test_what_gives_no_bound_is_refused(facts, says):
    values = {"options": ServingOptions(), "deadline_s": 0.1, "item_s": 0.01, **facts}
    with pytest.raises(InputError, match=says):
        bounded_for(values.pop("options"), turn="t", **values)


def test_the_time_of_an_item_is_the_exports_unless_it_is_given(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    with pytest.raises(InputError, match="no measured latency"):
        edgeml.queue_for_deadline(bundle, 0.1)
    found = edgeml.queue_for_deadline(bundle, 0.1, item_s=0.01)
    assert found.resources == {"turn-tiny": 1}
    timed = replace(
        bundle.manifest,
        variants=tuple(replace(row, p50_ms=20.0) for row in bundle.manifest.variants),
    )
    write_bundle(bundle.path, timed, place=bundle.path)
    half = edgeml.queue_for_deadline(str(bundle.path), 0.2)
    assert (half.max_batch_size, half.max_queue_size) == (found.max_batch_size, 3)


def test_priorities_stand_in_the_configuration_and_are_read_back(contract):
    options = bounded_for(
        ServingOptions(priorities=True), deadline_s=0.1, item_s=0.01, turn="turn-parts"
    )
    (text,) = build_configs(
        contract, name="clothing", policy="forbidden", version=1, options=options
    ).values()
    batching = parse_config(text)["dynamic_batching"]
    assert (batching["priority_levels"], batching["default_priority_level"]) == ("3", "2")
    assert describe(parse_config(text)).takes_priority
    (plain,) = build_configs(
        contract, name="clothing", policy="forbidden", version=1, options=ServingOptions()
    ).values()
    assert not describe(parse_config(plain)).takes_priority


def test_a_request_over_grpc_has_its_priority_where_the_model_has_some(contract):
    for options, expected in ((ServingOptions(priorities=True), 3), (ServingOptions(), 0)):
        (text,) = build_configs(
            contract, name="clothing", policy="forbidden", version=1, options=options
        ).values()
        served = served_from(describe(parse_config(text)), version="1", behind=None)
        with edgeml.priority("low"):
            request = request_of(served, [], model="clothing", version="", timeout_s=1.0)
        assert request.parameters["priority"].uint64_param == expected
