"""The sweep's settings, its choice, and the closed loop."""

from __future__ import annotations

import time

import pytest

from edgeml.errors import InputError, ServerError
from edgeml.serving.repository.config import CPU_CONFIG, config_text, parse_config
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.tuning.load import measure
from edgeml.serving.tuning.sweeping import Row, Setting, Sweep, choose, make_settings


def _row(per_s: float, p99_ms: float, *, errors: int = 0, bound_ms: float = 20.0) -> Row:
    setting = Setting(instances=1, threads_each=1, max_batch_size=int(per_s), queue_delay_us=0)
    within = p99_ms <= bound_ms and not errors
    return Row(
        setting=setting, per_s=per_s, p50_ms=1.0, p99_ms=p99_ms, errors=errors, within=within
    )


def test_settings_share_the_threads_and_a_lone_sample_waits_for_nobody() -> None:
    settings = make_settings(2)
    assert {(row.instances, row.threads_each) for row in settings} == {(1, 2), (2, 1)}
    assert all(row.queue_delay_us == 0 for row in settings if row.max_batch_size == 1)
    assert len(set(settings)) == len(settings) == 10
    assert {row.max_batch_size for row in make_settings(2, fixed_batch=16)} == {16}


def test_most_answers_within_the_bound_win() -> None:
    rows = [_row(100, 5), _row(300, 50), _row(200, 19), _row(400, 10, errors=1)]
    assert choose(rows) is rows[2]


def test_where_nothing_keeps_the_bound_the_nearest_is_taken() -> None:
    rows = [_row(100, 50), _row(300, 30), _row(400, 25, errors=3)]
    assert choose(rows) is rows[1]


def test_a_setting_changes_a_configuration_and_nothing_else(contract) -> None:
    options = ServingOptions(queue_delay_us=500)
    text = build_configs(contract, name="clothing", policy="allowed", version=1, options=options)[
        CPU_CONFIG
    ]
    before = parse_config(text)
    setting = Setting(instances=2, threads_each=3, max_batch_size=8, queue_delay_us=0)
    after = parse_config(config_text(setting.apply(before)))
    assert after["instance_group"] == [{"kind": "KIND_CPU", "count": 2}]
    assert after["parameters"]["intra_op_thread_count"]["string_value"] == "3"
    assert (after["max_batch_size"], after["dynamic_batching"]) == (8, {})
    changed = {"instance_group", "parameters", "max_batch_size", "dynamic_batching"}
    assert {key for key in before if before[key] != after[key]} == changed
    assert before == parse_config(text)
    published = build_configs(
        contract, name="clothing", policy="allowed", version=1, options=setting.options(options)
    )[CPU_CONFIG]
    assert parse_config(published) == after


def test_callers_in_a_closed_loop() -> None:
    found = measure(lambda: time.sleep(0.01), callers=4, seconds=0.4)
    assert found.errors == 0
    assert 9.9 <= found.p50_ms <= found.p99_ms
    assert 80 <= found.per_s <= 404


def test_failures_are_counted_and_told() -> None:
    def refuse() -> None:
        raise ServerError("too much to do", url="grpc://x:1")

    found = measure(refuse, callers=2, seconds=0.1)
    assert found.answered == 0
    assert found.errors > 0
    assert "too much to do" in found.reason


@pytest.mark.parametrize("changes", [{"p99_ms": 0.0}, {"seconds": 0.0}, {"callers": 0}])
def test_numbers_that_are_none_are_refused(changes) -> None:
    named = {"http": "", "grpc": "", "model": "m", "config": {}, "feed": {}, "p99_ms": 1.0}
    with pytest.raises(InputError, match="positive numbers were expected"):
        Sweep(**{**named, **changes})
