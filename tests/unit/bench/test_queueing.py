"""The queue model against textbook formulas, and against the engine on a server that it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeml.bench.arrivals import constant, poisson
from edgeml.bench.null_server import null_server
from edgeml.bench.queueing import highest_modelled_rate, model_server, simulate_queue
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import judge
from edgeml.errors import InputError

_QUERIES = 200_000


def _mean_response(service_ms: np.ndarray, *, rate_per_s: float, servers: int) -> float:
    schedule = poisson(rate_per_s, num_queries=_QUERIES, seed=2)
    return float(simulate_queue(schedule, service_ms, servers=servers)[_QUERIES // 10 :].mean())


def test_one_server_with_fixed_service_is_pollaczek_and_khinchine() -> None:
    rho = 0.6
    expected = 4.0 + rho * 4.0 / (2 * (1 - rho))
    mean = _mean_response(np.full(_QUERIES, 4.0), rate_per_s=150.0, servers=1)
    assert mean == pytest.approx(expected, rel=0.03)


def test_one_server_with_exponential_service_has_exponential_responses() -> None:
    service = np.random.default_rng(4).exponential(4.0, size=_QUERIES)
    schedule = poisson(150.0, num_queries=_QUERIES, seed=2)
    response = simulate_queue(schedule, service, servers=1)[_QUERIES // 10 :]
    scale = 4.0 / (1 - 0.6)
    for share in (0.5, 0.9, 0.99):
        assert np.quantile(response, share) == pytest.approx(-scale * np.log(1 - share), rel=0.06)


def test_two_servers_with_exponential_service_are_erlangs() -> None:
    service = np.random.default_rng(4).exponential(4.0, size=_QUERIES)
    rho = 0.6
    waits = 2 * rho**2 / (1 + rho)  # Erlang C for two servers
    expected = 4.0 + waits * 4.0 / (2 * (1 - rho))
    assert _mean_response(service, rate_per_s=300.0, servers=2) == pytest.approx(expected, rel=0.03)


def test_a_queue_by_hand() -> None:
    schedule = constant(1000.0, num_queries=4)  # at 0, 1, 2, 3 ms
    service = np.array([2.5, 1.0, 1.0, 1.0])
    assert simulate_queue(schedule, service, servers=1).tolist() == [2.5, 2.5, 2.5, 2.5]
    assert simulate_queue(schedule, service, servers=2).tolist() == [2.5, 1.0, 1.0, 1.0]


def test_more_is_asked_than_the_servers_have() -> None:
    modelled = model_server([4.0], rate_per_s=300.0)
    assert (modelled.p50_ms, modelled.p99_ms, modelled.stable) == (None, None, False)
    assert modelled.reason.startswith("120 % of the servers' time is asked for")
    assert model_server([4.0], rate_per_s=300.0, servers=2).stable
    assert modelled.to_json()["kind"] == "modelled"


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second, other = (
        model_server([3.0, 4.0, 9.0], rate_per_s=100.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_the_highest_rate_meets_the_bound_and_a_little_more_does_not() -> None:
    rate = highest_modelled_rate([4.0], bound_ms=20.0)
    low, high = (model_server([4.0], rate_per_s=rate * by).p99_ms for by in (0.999, 1.02))
    assert low is not None
    assert high is not None
    assert low <= 20.0 < high
    assert highest_modelled_rate([4.0], bound_ms=3.0) == 0.0


@pytest.mark.parametrize("times", [[], [0.0], [-1.0], [float("inf")], [float("nan")]])
def test_service_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match="expected"):
        model_server(times, rate_per_s=1.0)


def test_the_model_says_what_the_engine_measures(tmp_path: Path) -> None:
    # A server that serves one query at a time, each for 5 ms, behind one connection: the engine's
    # response times are those of the model on the same arrivals and the same service times.
    body = tmp_path / "body"
    body.write_bytes(b"x")
    schedule = poisson(110.0, num_queries=300, seed=9)
    scenario = Server(schedule=schedule, callers=1, when_busy="queue")
    with null_server(service_ms=5.0) as port:
        spec = TargetSpec(
            factory="edgeml.bench.raw_http:http_target",
            options={"url": f"http://127.0.0.1:{port}/", "files": [str(body)]},
        )
        for _ in range(5):
            record = run(spec, scenario)
            if not judge(record).late:
                break
    # The time that the generator took itself is a part of what kept the connection.
    predicted = simulate_queue(schedule, record.service_ms + record.send_lag_ms, servers=1)
    for share in (0.5, 0.9, 0.99):
        ratio = np.quantile(record.response_ms, share) / np.quantile(predicted, share)
        assert ratio == pytest.approx(1.0, abs=0.02)
    waited = record.response_ms - record.service_ms
    assert np.quantile(waited, 0.9) > 2.0  # there was a queue to predict
