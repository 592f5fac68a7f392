"""Send a request as it is, however malformed, and say what came back."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc

from benchmarks.robustness.drafts import HttpRequest

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S = 10.0
_TINY_ROOM = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a request came to.

    Attributes:
        status: A status of HTTP or gRPC; ``closed`` where the connection ended without one, and
            ``silent`` where nothing came in time.
        text: The start of the answer or the reason.
    """

    status: str
    text: str = ""


def send_http(url: str, request: HttpRequest, *, timeout_s: float = _TIMEOUT_S) -> Outcome:
    """Send a request on a connection of its own, and nothing after it."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as line:
            # A server that refuses early closes while the rest is sent: its answer is read still.
            with contextlib.suppress(ConnectionError):
                line.sendall(request.head() + request.body)
                line.shutdown(socket.SHUT_WR)
            return _answer(line)
    except TimeoutError:
        return Outcome(status="silent")
    except OSError as exc:
        return Outcome(status="closed", text=str(exc))


def _answer(line: socket.socket) -> Outcome:
    received = bytearray()
    while piece := line.recv(_TINY_ROOM):
        received += piece
        head, end, body = bytes(received).partition(b"\r\n\r\n")
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if end and status and status[1] != b"100" and length and len(body) >= int(length[1]):
            return Outcome(status=status[1].decode(), text=body[:300].decode("utf-8", "replace"))
    return Outcome(status="closed")


class GrpcSender:
    """Sends bytes as messages on one channel."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.insecure_channel(
            url.removeprefix("grpc://"),
            options=[
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 200),
            ],
        )
        self._call = self._channel.unary_unary(
            _METHOD, request_serializer=bytes, response_deserializer=bytes
        )

    def send(self, message: bytes, *, timeout_s: float = _TIMEOUT_S) -> Outcome:
        """Send one message and wait for its answer."""
        try:
            self._call(message, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as exc:
            code = exc.code()
            silent = code is grpc.StatusCode.DEADLINE_EXCEEDED
            return Outcome(status="silent" if silent else code.name, text=str(exc.details())[:300])
        return Outcome(status="OK")

    def close(self) -> None:
        self._channel.close()


@contextlib.contextmanager
def grpc_sender(url: str) -> Iterator[GrpcSender]:
    """Open a channel for a while."""
    sender = GrpcSender(url)
    try:
        yield sender
    finally:
        sender.close()
