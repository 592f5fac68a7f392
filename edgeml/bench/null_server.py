"""A server that does nothing, in a process of its own: what is left is the generator's floor.

``python -m edgeml.bench.null_server KIND`` listens on a free port of this machine, writes the port
to stdout and ends when its stdin does. It answers bytes with two bytes. With a service time it is
also the model of a server with known behaviour, which tests and comparisons need: one query at a
time, in the order of arrival, each for the same time, and on request one stall.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from edgeml.bench.children import child_environment
from edgeml.bench.system import sharpen_timers
from edgeml.errors import MeasurementError

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BLOCK = 65536


@contextlib.contextmanager
def null_server(
    kind: str = "http", *, service_ms: float = 0.0, stall_at: int = -1, stall_ms: float = 0.0
) -> Iterator[int]:
    """Run a server that does nothing, or next to nothing.

    Args:
        kind: ``http`` or ``grpc``.
        service_ms: Time for one query, one at a time; HTTP only.
        stall_at: Number of the query that takes longer.
        stall_ms: How much longer.

    Yields:
        Its port on 127.0.0.1.

    Raises:
        MeasurementError: It did not start.
    """
    command = [sys.executable, "-m", "edgeml.bench.null_server", kind]
    command += [str(service_ms), str(stall_at), str(stall_ms)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            process.kill()
            raise MeasurementError(
                f"the null server '{kind}' did not start; a port was expected; "
                "see what it wrote to stderr"
            )
        try:
            yield int(line)
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


class _Model:
    """One query at a time, first come, first served, each for the same time."""

    def __init__(self, service_ms: float, stall_at: int, stall_ms: float) -> None:
        self._waiting: queue.SimpleQueue[threading.Lock] = queue.SimpleQueue()
        self._times_s = (service_ms / 1e3, stall_at, stall_ms / 1e3)
        if service_ms or stall_ms:
            threading.Thread(target=self._serve, daemon=True).start()
        self.works = bool(service_ms or stall_ms)

    def __call__(self) -> None:
        done = threading.Lock()
        done.acquire()
        self._waiting.put(done)
        done.acquire()

    def _serve(self) -> None:
        service_s, stall_at, stall_s = self._times_s
        number = 0
        while True:
            done = self._waiting.get()
            time.sleep(service_s + (stall_s if number == stall_at else 0.0))
            number += 1
            done.release()


def _serve_http(model: _Model) -> int:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            while _read_request(connection):
                if model.works:
                    model()
                connection.sendall(_ANSWER)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def _read_request(connection: socket.socket) -> bool:
    data = connection.recv(_BLOCK)
    while data and (end := data.find(b"\r\n\r\n")) < 0:
        more = connection.recv(_BLOCK)
        data = data + more if more else b""
    if not data:
        return False
    head = data[:end].lower()
    at = head.find(b"content-length:")
    missing = int(head[at + 15 :].split(b"\r\n", 1)[0]) - len(data) + end + 4 if at >= 0 else 0
    while missing > 0:
        more = connection.recv(_BLOCK)
        if not more:
            return False
        missing -= len(more)
    return True


def _serve_grpc() -> int:
    import grpc  # the extra [triton] brings it; only this kind needs it

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # untyped library
        def service(self, _details: object) -> object:
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=(Handler(),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _KEPT.append(server)
    return port


_KEPT: list[object] = []


def main(arguments: list[str]) -> None:
    """Serve until stdin ends."""
    kind, service_ms, stall_at, stall_ms = arguments
    sharpen_timers()
    model = _Model(float(service_ms), int(stall_at), float(stall_ms))
    port = _serve_grpc() if kind == "grpc" else _serve_http(model)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
