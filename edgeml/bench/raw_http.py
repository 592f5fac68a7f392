"""The cheapest honest HTTP client: one kept connection a caller, a prepared request, one read loop.

Python's HTTP libraries cost 60 to 500 us a call, which is more than many models need. A request is
built once, before the clock runs; an answer is read to its end by Content-Length. It speaks
HTTP/1.1 to servers that send a length, which ours and Triton do, and says so where one does not.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeml.bench.targets import Call, CallTarget
from edgeml.errors import (
    InputError,
    RequestRefusedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)

_REFUSED = (413, 429, 503)
_BLOCK = 65536


class HttpConnection:
    """One kept connection. Not for several threads.

    Args:
        url: ``http://host:port/path``.
        timeout_s: Longest wait for one read.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"'{url}' cannot be asked; http://host:port/path was expected")
        self._address = (parts.hostname, parts.port or 80)
        self._url = url
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> bytes:
        """Send a whole request and return the body of a good answer.

        Raises:
            RequestRefusedError: Status 413, 429 or 503.
            ServerError: Another status, or an answer that cannot be read.
            ServerTimeoutError: No answer in time.
            ServerUnreachableError: No connection, or it was lost.
        """
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            status, body = self._read(self._socket)
        except TimeoutError as exc:
            self.close()
            raise ServerTimeoutError(url=self._url, timeout_s=self._timeout_s) from exc
        except OSError as exc:
            self.close()
            raise ServerUnreachableError(
                f"the connection failed ({exc}); a running server was expected", url=self._url
            ) from exc
        if status == 200:
            return body
        said = body[:200].decode(errors="replace")
        kind = RequestRefusedError if status in _REFUSED else ServerError
        raise kind(f"status {status} where 200 was expected: {said}", url=self._url)

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, connection: socket.socket) -> tuple[int, bytes]:
        data = connection.recv(_BLOCK)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more(connection, data)
        head = data[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self.close()
            raise ServerError("no Content-Length; an answer with one was expected", url=self._url)
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        body = data[end + 4 :]
        while len(body) < length:
            body += self._more(connection, body)
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head[9:12]), body

    def _more(self, connection: socket.socket, _so_far: bytes) -> bytes:
        data = connection.recv(_BLOCK)
        if not data:
            raise ConnectionResetError("closed by the server in the middle of an answer")
        return data


def build_request(url: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a POST, to be sent as often as needed.

    Args:
        url: ``http://host:port/path``.
        body: The body.
        headers: Beside Host and Content-Length.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HttpTarget(CallTarget):
    """A URL that answers prepared bodies; each caller has a connection of its own.

    Args:
        url: ``http://host:port/path``.
        bodies: One a sample.
        headers: Sent with each.
        timeout_s: Longest wait for one read.
        read: Body of an answer to what is compared with ``expected``.
        expected: The right answers by sample.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        read: Callable[[bytes], Any] = bytes,
        expected: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            lambda sample: None, num_samples=len(bodies), client="raw-http", expected=expected
        )
        self._url = url
        self._timeout_s = timeout_s
        self._read = read
        self._requests = [build_request(url, body, headers=headers) for body in bodies]
        self._open: list[HttpConnection] = []

    def connect(self) -> Call:
        """Return a call over a connection of its own."""
        connection = HttpConnection(self._url, timeout_s=self._timeout_s)
        self._open.append(connection)
        requests = self._requests
        return lambda sample: connection.ask(requests[sample])

    def check(self, sample: int, answer: Any) -> str | None:
        """Read the body and compare; after the clock has stopped."""
        return super().check(sample, self._read(answer))

    def close(self) -> None:
        """Close all callers' connections."""
        for connection in self._open:
            connection.close()


def http_target(
    *,
    url: str,
    files: Sequence[str],
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
    expected_labels: Sequence[str] | None = None,
) -> HttpTarget:
    """Return a target that posts files; the factory for specs.

    Args:
        url: ``http://host:port/path``.
        files: Bodies, one file a sample.
        headers: Sent with each, such as Content-Type.
        timeout_s: Longest wait for one read.
        expected_labels: What the key ``label`` of the JSON answers must be.
    """
    return HttpTarget(
        url,
        [Path(file).read_bytes() for file in files],
        headers=headers,
        timeout_s=timeout_s,
        read=bytes if expected_labels is None else _label,
        expected=expected_labels,
    )


def _label(body: bytes) -> Any:
    try:
        return json.loads(body)["label"]
    except (ValueError, KeyError, TypeError):
        return body[:80]
