from __future__ import annotations

import pytest

from edgeml.errors import InputError
from edgeml.workflows.profiling.deployments import parse_targets
from edgeml.workflows.profiling.settings import (
    ProfileSettings,
    ServiceLevel,
    check_scenarios,
    settings_of,
)


def test_targets_are_started_here_or_at_an_address() -> None:
    edge, grpc, http = parse_targets(
        ["edge", "triton-grpc=grpc://192.0.2.7:8001/shoes", "http=http://127.0.0.1:9/v1/answer"]
    )
    assert (edge.name, edge.url, edge.placement) == ("edge", None, "co-located")
    assert (grpc.url, grpc.model, grpc.placement) == ("grpc://192.0.2.7:8001", "shoes", "remote")
    assert (http.url, http.placement) == ("http://127.0.0.1:9/v1/answer", "co-located")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ray"], "'ray' cannot be profiled"),
        (["ray=http://here:1"], "'ray' cannot be profiled"),
        (["triton"], "'triton' is no target"),
        (["edge=http://here:1"], "takes no address"),
        (["triton-grpc=http://here:1"], "grpc://host:port"),
        (["triton-grpc=grpc://here"], "is no address"),
        (["http=http://here:99999"], "is no address"),
        (["edge", "edge"], "named twice"),
        ([], "no target was named"),
    ],
)
def test_other_targets_are_refused_by_name(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_targets(words)


def test_scenarios_are_known_and_named_once() -> None:
    assert check_scenarios(("server", "server", "offline")) == ("server", "offline")
    with pytest.raises(InputError, match="'batch' is no scenario"):
        check_scenarios(("batch",))
    with pytest.raises(InputError, match="no scenario was named"):
        check_scenarios(())


@pytest.mark.parametrize(
    ("name", "value"),
    [("p99_ms", 0), ("rate_per_s", -1), ("min_accuracy", 1.5), ("max_memory_mb", float("nan"))],
)
def test_a_bound_is_a_number_above_zero(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        ServiceLevel(**{name: value})


def test_presets_are_quick_and_full() -> None:
    assert settings_of("full").search_rates
    assert settings_of("quick", num_threads=2).num_threads == 2
    with pytest.raises(InputError, match="'quick' or 'full'"):
        settings_of("slow")
    with pytest.raises(InputError, match="repeats is 0"):
        ProfileSettings(repeats=0)
    with pytest.raises(InputError, match="run_s is 0"):
        ProfileSettings(run_s=0)
