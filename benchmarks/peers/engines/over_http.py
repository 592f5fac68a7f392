"""What the peers behind a server share: a process, a wait until it answers, one open connection.

Standard library only. The servers listen on this machine's loopback and end with the worker.
"""

from __future__ import annotations

import atexit
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_START_S = 120.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program of this environment; it is ended with this process."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )

    def end() -> None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()

    atexit.register(end)
    return process


class Caller:
    """One text to its label and probability, over one connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __call__(self, text: str) -> tuple[str, float]:
        body = json.dumps({"text": text}).encode()
        try:
            reply = self._post(body)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            # Others were asked meanwhile, and servers close connections that idle for seconds.
            self._connection.close()
            reply = self._post(body)
        contents = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"it answered {reply.status}: {contents[:120]!r}")
        value = json.loads(contents)
        return value["label"], float(value["score"])

    def _post(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def caller(port: int, process: subprocess.Popen[bytes]) -> Caller:
    """Wait until a server answers ``POST /predict``, and return a call over one connection.

    Raises:
        RuntimeError: It ends, or does not answer in time.
    """
    answer = Caller(port)
    until = time.monotonic() + _START_S
    while True:
        try:
            answer("are you there")
        except (OSError, http.client.HTTPException, RuntimeError) as exc:
            answer.close()
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}") from exc
            if time.monotonic() > until:
                raise RuntimeError(f"the server did not answer within {_START_S:g} s") from exc
            time.sleep(0.1)
        else:
            return answer
