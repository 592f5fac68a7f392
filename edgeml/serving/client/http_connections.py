"""Connections of HTTP that are kept, and one request and its answer over one of them.

Threads share them, one call at a time each. One that the server closed while it lay idle is opened
again once, for a call that was not answered: inference changes nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeml.errors import ClosedError, ServerTimeoutError
from edgeml.serving.client.faults import unreachable
from edgeml.serving.client.http_wire import HEADER_LENGTH
from edgeml.serving.client.tls import context_of
from edgeml.serving.client.transport import Address

# Idle connections are renewed before a load balancer on the way forgets them.
_IDLE_S = 600.0
# Below this, one copy is cheaper than a system call more.
_JOINED_BYTES = 65536
# What a connection says that was closed before it answered anything.
_CLOSED_BEFORE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP.
        header_length: Length of the JSON at the body's head, where the server says so.
        body: All of it.
        late: Whether the time that was allowed is over.
    """

    status: int
    header_length: int | None
    body: bytes
    late: bool


@dataclass(eq=False)
class _Kept:
    """A connection, and when it was last used."""

    connection: http.client.HTTPConnection
    used: float = field(default_factory=time.monotonic)


class HttpConnections:
    """Connections to one server. Safe to call from several threads.

    Args:
        address: The server.

    Raises:
        InputError: Its certificates cannot be used.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._lost = False
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._busy: set[_Kept] = set()
        self._context = context_of(address) if address.secure else None
        token = address.token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def exchange(
        self,
        method: str,
        path: str,
        timeout_s: float,
        *,
        body: Sequence[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send and receive once; where a kept connection turns out to be closed, once more.

        Args:
            method: ``GET`` or ``POST``.
            path: Of the request.
            timeout_s: Time allowed for all of it.
            body: What is sent, in parts.
            headers: Sent beside the token.

        Raises:
            ServerUnreachableError: Nobody answers there.
            ServerTimeoutError: The answer came too late.
            ClosedError: The connections were closed.
        """
        end = time.monotonic() + timeout_s
        sent = {**self._headers, **(headers or {})}
        renew = False
        while True:
            kept, fresh = self._take(renew=renew)
            try:
                reply = _send(kept.connection, method, path, body, sent, end=end)
            except TimeoutError as exc:
                self._drop(kept)
                raise ServerTimeoutError(url=self._address.url, timeout_s=timeout_s) from exc
            except (OSError, http.client.HTTPException) as exc:
                self._drop(kept)
                if self._closed:
                    raise ClosedError from exc
                self._lost = True
                if fresh or not isinstance(exc, _CLOSED_BEFORE):
                    raise unreachable(
                        str(exc) or type(exc).__name__, url=self._address.url
                    ) from exc
                renew = True
                continue
            except BaseException:
                self._drop(kept)
                raise
            self._give_back(kept)
            return reply

    def take_lost(self) -> bool:
        """Return whether a connection was lost since the last time this was asked."""
        if not self._lost:
            return False
        with self._lock:
            lost, self._lost = self._lost, False
            return lost

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        with self._lock:
            self._closed = True
            kept = [*self._idle, *self._busy]
            self._idle.clear()
        for row in kept:
            sock = row.connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):  # wakes whoever waits for an answer
                    sock.shutdown(socket.SHUT_RDWR)
            row.connection.close()

    def _take(self, *, renew: bool) -> tuple[_Kept, bool]:
        """Return a connection for one call, and whether it is a new one."""
        with self._lock:
            if self._closed:
                raise ClosedError
            while self._idle:
                kept = self._idle.pop()
                if not renew and time.monotonic() - kept.used < _IDLE_S:
                    self._busy.add(kept)
                    return kept, False
                kept.connection.close()
            kept = _Kept(self._connect())
            self._busy.add(kept)
            return kept, True

    def _connect(self) -> http.client.HTTPConnection:
        address = self._address
        if self._context is None:
            return http.client.HTTPConnection(address.host, address.port)
        return http.client.HTTPSConnection(address.host, address.port, context=self._context)

    def _give_back(self, kept: _Kept) -> None:
        kept.used = time.monotonic()
        with self._lock:
            self._busy.discard(kept)
            if not self._closed and kept.connection.sock is not None:
                self._idle.append(kept)
                return
        kept.connection.close()

    def _drop(self, kept: _Kept) -> None:
        with self._lock:
            self._busy.discard(kept)
        kept.connection.close()


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Sequence[bytes] | None,
    headers: Mapping[str, str],
    *,
    end: float,
) -> Reply:
    """Send one request and read its whole answer before ``end``."""
    connection.timeout = _left(end)
    if connection.sock is None:
        connection.connect()
    _set_timeout(connection, end)
    parts = [] if body is None else list(body)
    size = sum(map(len, parts))
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(size))
        if size < _JOINED_BYTES:
            parts = [b"".join(parts)]
    connection.endheaders(parts[0] if parts else None)
    for part in parts[1:]:
        _set_timeout(connection, end)
        connection.send(part)
    _set_timeout(connection, end)
    return _receive(connection, end=end)


def _receive(connection: http.client.HTTPConnection, *, end: float) -> Reply:
    sock = connection.sock
    response = connection.getresponse()
    with response:
        content = bytearray()
        while not response.isclosed():
            sock.settimeout(_left(end))  # an answer that comes drop by drop ends in time too
            part = response.read1()
            if not part:
                break
            content += part
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
    length = response.getheader(HEADER_LENGTH)
    if response.will_close:
        connection.close()
    return Reply(
        status=response.status,
        header_length=int(length) if length and length.isdecimal() else None,
        body=bytes(content),
        late=time.monotonic() >= end,
    )


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _set_timeout(connection: http.client.HTTPConnection, end: float) -> None:
    if connection.sock is None:  # closed by another thread
        raise ConnectionError("the connection was closed")
    connection.sock.settimeout(_left(end))
