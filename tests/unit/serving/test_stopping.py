"""The end of a server: waited for while requests run, and no longer than that."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeml.serving.server import stopping
from edgeml.serving.server.stopping import end_server

# Says that it is ready, then handles SIGTERM as its argument says, and writes to its output.
_SERVER = """
import signal, sys, time
def end(number, frame):
    if sys.argv[1] == "idle":
        print("All models are stopped, unloading models", flush=True)
    if sys.argv[1] == "draining":
        time.sleep(0.6)
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(stopping, "_UNLOAD_S", 0.3)


def stopped(kind: str, log: Path, *, drain_s: float) -> tuple[float, int]:
    """Return how long the end of such a server took, and its exit code."""
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", _SERVER, kind], stdout=file)
    while b"ready" not in log.read_bytes():
        time.sleep(0.01)
    started = time.monotonic()
    end_server(process, log_path=log, drain_s=drain_s)
    end_server(process, log_path=log, drain_s=drain_s)
    return time.monotonic() - started, process.returncode


def test_running_requests_are_waited_for(tmp_path):
    took_s, code = stopped("draining", tmp_path / "log", drain_s=10)
    assert (code, 0.5 < took_s < 5) == (0, True)


def test_a_server_that_only_unloads_gets_no_more_of_its_time(tmp_path):
    took_s, code = stopped("idle", tmp_path / "log", drain_s=10)
    assert (code, took_s < 5) == (-9, True)


def test_a_server_that_does_not_listen_is_killed_after_its_time(tmp_path):
    took_s, code = stopped("deaf", tmp_path / "log", drain_s=0.5)
    assert (code, 0.7 < took_s < 5) == (-9, True)
