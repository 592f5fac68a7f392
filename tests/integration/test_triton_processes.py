"""``edgeml triton serve`` as a program: signals, a killed owner, odd paths, and what it reports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeml.errors import ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import start_triton

pytestmark = pytest.mark.triton

EDGEML = [sys.executable, "-m", "edgeml"]
SERVE = [*EDGEML, "triton", "serve", "--json", "--timeout", "60"]
PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


@pytest.fixture
def published(triton, tiny, tmp_path) -> Path:
    publish_bundle(tiny, tmp_path / "models")
    return tmp_path / "models"


@contextlib.contextmanager
def served(repository: Path, temporary: Path):
    """Run the verb; whatever a failing test leaves is killed."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [*SERVE, *PORTS, "--repository", str(repository)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A run below nohup ignores SIGHUP and hands that on; the verb is tried as a terminal starts it.
    with subprocess.Popen(command, env=environment, preexec_fn=_hear_hangups, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()
            for pid in naming(repository):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _hear_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def naming(repository: Path) -> list[int]:
    """Return the servers and stubs of a repository; they have its path in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if str(repository).encode() in words and b"\0serve\0" not in words:
                found.append(int(path.parent.name))
    return found


def wait_for(condition, *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_during_the_start_leaves_no_process(published, tmp_path, number):
    with served(published, tmp_path) as process:
        wait_for(lambda: naming(published))
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        assert process.returncode != 0
        assert out == ""
        assert naming(published) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_running_server_ends_it_in_order(published, tmp_path, number):
    with served(published, tmp_path) as process:
        report = json.loads(process.stdout.readline())
        assert Path(report["log"]).is_file()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert naming(published) == []


def test_a_killed_owner_takes_its_server_along(published, tmp_path):
    with served(published, tmp_path) as process:
        process.stdout.readline()
        assert naming(published)
        process.kill()
        wait_for(lambda: not naming(published))


def test_the_next_start_sweeps_what_a_killed_one_left(triton, published, tmp_path):
    with served(published, tmp_path) as process:
        process.stdout.readline()
        left = f"edgeml_*_{process.pid}_*"
        process.kill()
        for pid in naming(published):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not naming(published))
    assert list(Path("/dev/shm").glob(left))
    with start_triton(published, installation=triton):
        assert not list(Path("/dev/shm").glob(left))


@pytest.mark.parametrize("name", ["with a space", "q;touch INJECTED;", "a$HOME&'b'"])
def test_a_repository_may_have_any_path(triton, tiny, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    publish_bundle(tiny, tmp_path / name)
    with start_triton(tmp_path / name, installation=triton, timeout_s=30) as server:
        engine = TritonEngine(server.grpc, model="tiny")
        assert check_golden(engine, tiny).ok
        engine.close()
        link = server._link
        assert link.is_symlink()
    assert not link.parent.exists()
    assert not (tmp_path / "INJECTED").exists()


def test_status_says_where_else_the_server_answers_and_why_a_model_is_left_out(
    triton, tiny, published
):
    publish_bundle(tiny, published, name="review", config_only=True)
    with start_triton(published, installation=triton) as server:
        command = [*EDGEML, "triton", "status", "--json", "--url", server.http]
        environment = {**os.environ, "TMPDIR": str(server.log_path.parent)}
        text = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        report = json.loads(text)
        # Another place for temporary files stands for another user: no record is found there.
        environment["TMPDIR"] = str(published)
        text = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        bare = json.loads(text)
    assert (report["grpc"], report["metrics"]) == (server.grpc, server.metrics)
    assert report["log"] == str(server.log_path)
    assert "no version folder" in report["models"][0]["reason"]
    assert "grpc" not in bare
    assert bare["models"][0]["reason"] == "not loaded"


def test_a_killed_server_is_told_by_its_signal(triton, published):
    with start_triton(published, installation=triton) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match=r"ended by SIGKILL.*see /"):
            server.models()
