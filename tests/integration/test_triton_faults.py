"""Servers that die, hang, are not there, or cannot be right."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeml.errors import (
    HostError,
    InputError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.installation.finding import backend_files
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import start_triton
from tests.integration.stopping import stopped
from tests.unit.serving.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.triton

IMAGE = {"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)}


@pytest.fixture
def published(tiny, tmp_path) -> Path:
    publish_bundle(tiny, tmp_path / "models")
    return tmp_path / "models"


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def stub_of(server, model: str) -> int:
    """Return the process id of the stub that runs a model."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode().split("\0")
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if f"{model}_0_0" in words and int(parent) == server.pid:
                return int(path.name)
    raise AssertionError(f"no stub of {model}")


def test_a_server_ends_with_all_that_it_started(triton, published):
    with start_triton(published, installation=triton) as server:
        before = {path.name for path in Path("/dev/shm").glob(f"{server._token}*")}
        assert before
        pid = server.pid
    assert not server.is_running()
    assert not list(Path("/dev/shm").glob(f"{server._token}*"))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert server._token.encode() not in path.read_bytes()
    assert server.log_path.read_text()
    server.stop()
    assert server.pid == pid
    with pytest.raises(ServerError, match="the server ended"):
        server.models()


def test_it_listens_on_this_machine_only(triton, published):
    with start_triton(published, installation=triton) as server:
        ports = {int(url.rsplit(":", 1)[1].split("/")[0]) for url in (server.http, server.grpc)}
        ports.add(int(server.metrics.rsplit(":", 1)[1].split("/")[0]))
        listening = [
            line.split()[1].split(":")
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        ]
        addresses = {address for address, port in listening if int(port, 16) in ports}
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


def test_a_server_that_dies_while_in_use(triton, published, tiny):
    with start_triton(published, installation=triton) as server:
        engine = TritonEngine(server.grpc, model="tiny", timeout_s=5)
        assert check_golden(engine, tiny).ok
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerUnreachableError, match="no server answers"):
            engine.run(IMAGE)
        with pytest.raises(ServerError, match="the server ended"):
            server.models()
        port = int(server.grpc.rsplit(":", 1)[1])
        server.stop()
        assert not list(Path("/dev/shm").glob(f"{server._token}*"))
    # The same engine finds the next server at the same address.
    with start_triton(published, installation=triton, grpc_port=port):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(ServerUnreachableError):
                engine.run(IMAGE)
                break
            time.sleep(0.1)
        assert check_golden(engine, tiny).ok
    engine.close()


def test_a_server_that_hangs_and_then_goes_on(triton, published, tiny):
    with start_triton(published, installation=triton) as server:
        engine = TritonEngine(server.grpc, model="tiny", timeout_s=0.5)
        with stopped(server.pid):
            started = time.monotonic()
            with pytest.raises(ServerTimeoutError, match=r"within 0\.5 s"):
                engine.run(IMAGE)
            assert time.monotonic() - started < 3
        assert check_golden(engine, tiny).ok
        engine.close()


def test_a_stopped_server_can_be_ended(triton, published):
    with start_triton(published, installation=triton) as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert not server.is_running()


def test_a_killed_stub_is_an_error_of_the_model(triton, published, tiny):
    with start_triton(published, installation=triton) as server:
        engine = TritonEngine(server.grpc, model="tiny", timeout_s=10)
        os.kill(stub_of(server, "tiny"), signal.SIGKILL)
        with pytest.raises(ServerError, match="not healthy"):
            engine.run(IMAGE)
        engine.close()


@pytest.mark.parametrize("kind", ["http_port", "grpc_port", "metrics_port"])
def test_a_port_in_use_is_named(triton, published, kind):
    with taken_port() as port, pytest.raises(HostError, match=f"port {port} cannot be used"):
        start_triton(published, installation=triton, **{kind: port})


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(triton, published, port):
    with pytest.raises(InputError, match="1 to 65535"):
        start_triton(published, installation=triton, http_port=port)


def test_the_same_port_twice_is_refused(triton, published):
    with pytest.raises(InputError, match="not distinct"):
        start_triton(published, installation=triton, http_port=9, grpc_port=9)


def test_a_server_that_ends_at_once_is_told_with_its_log(triton, published, tmp_path):
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho 'error: creating server: no luck today'\nexit 1\n")
    program.chmod(0o755)
    broken = replace(triton, tritonserver=program)
    with pytest.raises(ServerError, match=r"no luck today.*see /"):
        start_triton(published, installation=broken)


def test_a_server_that_never_answers_is_late(triton, published, tmp_path):
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    silent = replace(triton, tritonserver=program)
    with pytest.raises(ServerTimeoutError):
        start_triton(published, installation=silent, timeout_s=0.5)


def test_a_program_that_does_not_start_is_named(triton, published, tmp_path):
    missing = replace(triton, tritonserver=tmp_path / "nothing")
    with pytest.raises(HostError, match="edgeml triton install"):
        start_triton(published, installation=missing)


def test_an_empty_repository_is_served_empty(triton, tmp_path):
    with start_triton(tmp_path, installation=triton) as server:
        assert server.models() == []


def test_a_killed_publish_beside_a_good_version_is_served(triton, published, tiny):
    """What a kill leaves, version folders without a configuration and staged ones, is ignored."""
    folder = published / "tiny"
    staged = folder / ".2.partial-999999999-0badf00d"
    staged.mkdir()
    (staged / "int8.onnx").write_bytes(b"half")
    (folder / "2").mkdir()
    (folder / "2/int8.onnx").write_bytes(b"complete but unnamed")
    with start_triton(published, installation=triton) as server:
        engine = TritonEngine(server.grpc, model="tiny")
        assert engine.served_by == "triton/cpu/int8/1"
        assert check_golden(engine, tiny).ok
        engine.close()


def test_the_named_version_is_the_one_served(triton, published, tmp_path):
    other = make_tiny_bundle(tmp_path / "other.bundle", seed=1)
    publish_bundle(other, published, name="tiny")
    with start_triton(published, installation=triton) as server:
        engine = TritonEngine(server.grpc, model="tiny")
        assert engine.served_by == "triton/cpu/int8/2"
        assert check_golden(engine, other).ok
        engine.close()


@pytest.mark.skipif(
    int(np.__version__.split(".")[0]) < 2, reason="this environment has no NumPy 2 to offer"
)
def test_numpy_2_in_the_stub_is_refused(triton, published, tmp_path):
    """The environment of these tests stands in for a stub's that somebody upgraded."""
    if triton.python != sys.version_info.minor:
        pytest.skip("the stub is of another Python than this one")
    backends = tmp_path / "backends"
    (backends / "onnxruntime").mkdir(parents=True)
    (backends / "python").symlink_to(triton.backends / "python")
    for file in backend_files():
        (backends / "onnxruntime" / file.name).write_text(file.read_text())
    site = Path(np.__file__).parents[1]
    (backends / "onnxruntime/edgeml.json").write_text(json.dumps({"site": str(site)}))
    with start_triton(published, installation=replace(triton, backends=backends)) as server:
        (row,) = server.models()
    assert row.state == "unavailable"
    assert row.reason.startswith("tensors arrive with wrong values")
    assert f"NumPy {np.__version__}" in row.reason
