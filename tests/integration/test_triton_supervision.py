"""A server that is killed, crashes or loses a stub serves again, or says that it cannot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeml.errors import EdgemlError, HostError, ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.host.processes import mark_of
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server import prechecks, supervising
from edgeml.serving.server.http import get_json
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of
from tests.integration.killers import DEEP, WIDE, post

pytestmark = pytest.mark.triton

IMAGE = {"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)}
WITHIN_S = 5.0
SLOW = """
import importlib.util, json, sys, time
from pathlib import Path
beside = Path(importlib.util.find_spec("triton_python_backend_utils").origin)
sys.path.insert(0, json.loads(beside.with_name("edgeml.json").read_text())["site"])
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "seconds").as_numpy()
            time.sleep(float(seconds.ravel()[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("slept", seconds)]))
        return answers
"""
SLOW_CONFIG = """
name: "slow" backend: "python" max_batch_size: 0
input { name: "seconds" data_type: TYPE_FP32 dims: [1] }
output { name: "slept" data_type: TYPE_FP32 dims: [1] }
instance_group { kind: KIND_CPU count: 1 }
"""


@pytest.fixture(scope="module")
def supervised(triton, tiny, tmp_path_factory) -> Iterator[TritonServer]:
    """A server that the tests harm, each in its own way; fewer than five of them kill it."""
    root = tmp_path_factory.mktemp("supervised")
    for name in ("tiny", "other", "doomed"):
        publish_bundle(tiny, root, name=name)
    with start_triton(root, installation=triton, supervised=True) as server:
        yield server


@pytest.fixture
def asking(supervised) -> Iterator[TritonEngine]:
    engine = TritonEngine(supervised.grpc, model="tiny", timeout_s=5)
    wait_until_answering(engine)
    yield engine
    engine.close()


def wait_until_answering(engine: TritonEngine, *, within_s: float = 20.0) -> float:
    """Return how long the model took to answer again, in seconds."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(EdgemlError):
            engine.run(IMAGE)
            return time.monotonic() - started
        assert time.monotonic() - started < within_s
        time.sleep(0.02)


def wait_for(condition, *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_server_is_back_at_its_ports(supervised, asking, tiny):
    before, seen = supervised.pid, supervised.supervision
    os.kill(before, signal.SIGKILL)
    with pytest.raises(ServerError):
        asking.run(IMAGE)
    assert wait_until_answering(asking) < WITHIN_S
    wait_for(lambda: supervised.supervision.restarts == seen.restarts + 1)
    assert supervised.pid != before
    assert check_golden(asking, tiny).ok
    assert supervised.failure() is None


@pytest.mark.parametrize("body", [WIDE, DEEP], ids=["shape", "depth"])
def test_a_request_that_kills_the_frontend_costs_seconds(supervised, asking, body):
    before = supervised.pid
    with pytest.raises(OSError, match=r"."):
        post(supervised.http, "/v2/models/tiny/infer", body)
    wait_for(lambda: supervised.pid != before)
    assert wait_until_answering(asking) < WITHIN_S


def test_a_killed_stub_is_replaced(supervised, asking, tiny):
    wait_for(lambda: "tiny" in supervised._supervisor._stubs)
    seen, before = supervised.supervision, supervised.pid
    others = {mark.pid for mark in stubs_of(supervised.token)["other"]}
    (stub,) = stubs_of(supervised.token)["tiny"]
    os.kill(stub.pid, signal.SIGKILL)
    started = time.monotonic()
    wait_for(lambda: supervised.supervision.cures == seen.cures + 1)
    assert wait_until_answering(asking) + time.monotonic() - started < WITHIN_S
    assert check_golden(asking, tiny).ok
    assert supervised.pid == before
    assert {mark.pid for mark in stubs_of(supervised.token)["other"]} == others


def test_a_model_that_cannot_be_cured_is_left_and_named(supervised, asking):
    wait_for(lambda: "doomed" in stubs_of(supervised.token))
    wait_for(lambda: "doomed" in supervised._supervisor._stubs)
    shutil.rmtree(supervised.repository / "doomed" / "1")
    (stub,) = stubs_of(supervised.token)["doomed"]
    os.kill(stub.pid, signal.SIGKILL)
    wait_for(lambda: supervised.supervision.left)
    ((name, reason),) = supervised.supervision.left
    assert name == "doomed"
    assert "load failed for model 'doomed'" in reason
    asking.run(IMAGE)


def test_a_server_that_crashes_again_and_again_is_given_up(triton, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(supervising, "MOST_CRASHES", 2)
    publish_bundle(tiny, tmp_path / "models")
    with start_triton(tmp_path / "models", installation=triton, supervised=True) as server:
        first = server.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: server.supervision.restarts == 1)
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: server.failure() is not None)
        with pytest.raises(ServerError, match=r"given up.*2 ends within 60 s"):
            server.models()
        assert not stubs_of(server.token)
    assert not list(Path("/dev/shm").glob(f"{server.token}*"))


def test_a_server_that_hangs_is_started_again(triton, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(supervising, "_HUNG_S", 0.5)
    monkeypatch.setattr(supervising, "_INDEX_TIMEOUT_S", 0.3)
    publish_bundle(tiny, tmp_path / "models")
    with start_triton(tmp_path / "models", installation=triton, supervised=True) as server:
        before = server.pid
        os.kill(before, signal.SIGSTOP)
        wait_for(lambda: server.supervision.restarts == 1)
        assert server.pid != before
        assert server.models()[0].state == "ready"


def test_running_requests_are_answered_before_the_end(triton, tmp_path):
    folder = tmp_path / "models/slow/1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(SLOW)
    (folder.parent / "config.pbtxt").write_text(SLOW_CONFIG)
    row = {"name": "seconds", "datatype": "FP32", "shape": [1], "data": [1.0]}
    answers = []

    def ask():
        text = json.dumps({"inputs": [row]})
        answers.append(post(server.http, "/v2/models/slow/infer", text, timeout_s=20)[0])

    options = {"supervised": True, "drain_s": 5.0}
    with start_triton(tmp_path / "models", installation=triton, **options) as server:
        callers = [threading.Thread(target=ask) for _ in range(2)]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
    for caller in callers:
        caller.join()
    assert answers == [200, 200]
    assert not stubs_of(server.token)
    assert not list(Path("/dev/shm").glob(f"{server.token}*"))
    with pytest.raises(OSError, match=r"refused"):
        post(server.http, "/v2/models/slow/infer", "{}")


def test_the_verb_keeps_a_server_and_takes_it_along_when_killed(triton, tiny, tmp_path):
    publish_bundle(tiny, tmp_path / "models")
    edgeml = [sys.executable, "-m", "edgeml", "triton"]
    ports = [word for kind in ("http", "grpc", "metrics") for word in (f"--{kind}-port", "0")]
    command = [*edgeml, "serve", "--json", *ports, "--repository", str(tmp_path / "models")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            report = json.loads(process.stdout.readline())
            os.kill(report["pid"], signal.SIGKILL)
            words = process.stderr.readline() + process.stderr.readline()
            asked = [*edgeml, "status", "--json", "--url", report["http"]]
            status = subprocess.run(asked, env=environment, check=True, capture_output=True)
        finally:
            process.kill()
    assert "ended by SIGKILL" in words
    assert "serves again" in words
    seen = json.loads(status.stdout)
    assert (seen["supervision"]["crashes"], seen["supervision"]["restarts"]) == (1, 1)
    assert [row["kind"] for row in seen["models"]] == ["KIND_CPU"]
    (record,) = tmp_path.glob("edgeml-triton-*/*.json")
    pid = json.loads(record.read_text())["pid"]
    assert pid != report["pid"]
    wait_for(lambda: mark_of(pid) is None)


def test_a_full_shared_memory_is_said_before_the_start(triton, tiny, tmp_path, monkeypatch):
    publish_bundle(tiny, tmp_path / "models")
    full = SimpleNamespace(f_bavail=100, f_frsize=4096, f_blocks=16384)
    monkeypatch.setattr(prechecks.os, "statvfs", lambda _: full)
    with pytest.raises(HostError, match=r"0\.4 MiB free of 64\.0.*need 2 MiB.*--shm-size"):
        start_triton(tmp_path / "models", installation=triton)


def test_a_gpu_that_is_required_and_not_there_is_an_error(triton, tiny, tmp_path):
    publish_bundle(tiny, tmp_path / "models")
    with pytest.raises(HostError, match=r"a GPU was required"):
        start_triton(tmp_path / "models", installation=triton, require_gpu=True)


def test_an_idle_model_gets_one_golden_request_a_second(supervised, asking):
    def answered() -> int:
        rows = get_json(f"{supervised.control}/v2/models/other/stats")["model_stats"]
        return sum(int(row["inference_stats"]["success"]["count"]) for row in rows)

    wait_for(lambda: answered() >= 2)
    before = answered()
    time.sleep(3.2)
    assert 2 <= answered() - before <= 4
