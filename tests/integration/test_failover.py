"""A fallback before a real Triton that is killed, hung and cut off: nobody sees an error."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

import edgeml
from benchmarks.resilience.fault_kinds import FAULTS
from benchmarks.resilience.faults import MODEL, Plan, measure_at
from benchmarks.resilience.proxy import Proxy
from edgeml.errors import ServerTimeoutError, ServerUnreachableError
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of
from tests.integration.stopping import stopped
from tests.unit.serving.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.triton

BY_NAME = {fault.name: fault for fault in FAULTS}
SHORT = Plan(rate_per_s=25.0, lead_s=1.0, harm_s=1.0, tail_s=3.5)
# Time for a supervisor, also on a machine that is busy.
TAILS_S = {"kill-stub": 6.0, "kill-server": 8.0}


@pytest.fixture(scope="module")
def published(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("failover")
    publish_bundle(tiny, root, name=MODEL, policy="forbidden")
    return root


@pytest.fixture(scope="module")
def supervised(triton, published) -> Iterator[TritonServer]:
    with start_triton(published, installation=triton, supervised=True, drain_s=0.5) as server:
        yield server


@pytest.fixture(scope="module")
def alone(triton, published) -> Iterator[TritonServer]:
    with start_triton(published, installation=triton, supervised=False, drain_s=0.5) as server:
        yield server


@pytest.mark.parametrize("name", ["kill-stub", "kill-server"])
def test_a_kill_under_load_is_an_error_to_nobody(supervised, tiny, name):
    plan = replace(SHORT, tail_s=TAILS_S[name])
    expect_no_harm(measure_at(supervised, BY_NAME[name], tiny, plan))


@pytest.mark.parametrize("name", ["hung", "black-hole"])
def test_a_server_that_does_not_answer_in_time_is_an_error_to_nobody(alone, tiny, name):
    expect_no_harm(measure_at(alone, BY_NAME[name], tiny, SHORT))


def expect_no_harm(outcomes):
    assert outcomes.num_failed == 0
    assert outcomes.num_wrong == 0
    assert outcomes.on_edge > 0
    assert outcomes.back_s is not None
    if outcomes.valid:  # else this machine had other things to do, and times say nothing
        assert outcomes.p99_ms <= 1000


@pytest.mark.parametrize("way", ["grpc", "http", "shared memory"])
def test_every_transport_gives_up_at_the_callers_deadline(alone, tiny, way):
    url = alone.http if way == "http" else alone.grpc
    with edgeml.connect(url, model=MODEL, shared_memory=way == "shared memory") as predictor:
        feed = {"image": tiny.golden().tensors["image"][:1]}
        predictor.run(feed)
        with stopped(alone.pid):
            for _ in range(2):  # over the connection that is there, and what comes after it
                started = time.monotonic()
                with pytest.raises(ServerTimeoutError), edgeml.deadline(0.2):
                    predictor.run(feed)
                assert 0.15 < time.monotonic() - started < 1.0
        predictor.run(feed)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_port_that_takes_no_connection_is_given_up_at_the_callers_deadline(scheme):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # What the queue holds is taken; what comes after it is dropped, as by a firewall.
        holders = [socket.socket() for _ in range(4)]
        for holder in holders:
            holder.setblocking(False)
            holder.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with pytest.raises((ServerTimeoutError, ServerUnreachableError)), edgeml.deadline(0.3):
            edgeml.connect(f"{scheme}://127.0.0.1:{port}", model=MODEL)
        assert time.monotonic() - started < 1.5
        for holder in holders:
            holder.close()


def test_a_client_may_start_first_and_knows_a_server_that_only_says_that_it_is_ready(
    triton, tiny, tmp_path
):
    publish_bundle(tiny, tmp_path, name=MODEL, policy="forbidden")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    both = edgeml.with_fallback(
        lambda: edgeml.connect(f"grpc://127.0.0.1:{port}", model=MODEL),
        edgeml.load(tiny, num_threads=1),
    )
    item = tiny.golden().tensors["image"][0]

    def asked():
        return both.predict(item).served_by

    assert asked() == "onnxruntime/cpu/int8/1"
    with start_triton(
        tmp_path, installation=triton, supervised=False, grpc_port=port, drain_s=0.5
    ) as server:
        end = time.monotonic() + 20
        while asked() != "triton/cpu/int8/1":
            assert time.monotonic() < end
            time.sleep(0.05)
        for mark in stubs_of(server.token)[MODEL]:
            os.kill(mark.pid, signal.SIGKILL)
        for _ in range(8):
            assert asked().startswith("onnxruntime/")
        time.sleep(1.0)  # probes go on, and the server goes on to say that it is ready
        assert asked().startswith("onnxruntime/")
        both.close()


def test_another_model_on_the_server_is_refused(alone, tmp_path):
    other = make_tiny_bundle(tmp_path / "other.bundle", seed=1)
    server = edgeml.connect(alone.grpc, model=MODEL)
    edge = edgeml.load(other, num_threads=1)
    with pytest.raises(edgeml.EdgemlError, match="different trainings"):
        edgeml.with_fallback(server, edge)
    settings = edgeml.FallbackSettings(allow_other_artefact=True)
    edgeml.with_fallback(server, edge, settings=settings).close()


def test_a_slow_network_is_found_again_although_connecting_takes_longer_than_a_call(alone, tiny):
    with Proxy(int(alone.grpc.rsplit(":", 1)[1])) as proxy:
        both = edgeml.with_fallback(
            edgeml.connect(f"grpc://127.0.0.1:{proxy.port}", model=MODEL),
            edgeml.load(tiny, num_threads=1),
        )
        item = tiny.golden().tensors["image"][0]
        proxy.silent = True
        for _ in range(6):
            assert both.predict(item).served_by.startswith("onnxruntime/")
        proxy.back_s = 0.2
        proxy.silent = False
        end = time.monotonic() + 15
        while not both.predict(item).served_by.startswith("triton/"):
            assert time.monotonic() < end
            time.sleep(0.05)
        both.close()
