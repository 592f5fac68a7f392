"""The inference protocol over HTTP, with its binary extension: no tensor ever becomes JSON.

Connections are kept and shared by threads, one call at a time each. One that the server closed
while it lay idle is opened again once, for a call that was not answered: inference changes nothing.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from edgeml.core.signature import Tensors
from edgeml.errors import (
    ClosedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.faults import translate_status
from edgeml.serving.http_wire import HEADER_LENGTH, make_message, read_answer, read_reason
from edgeml.serving.served import Served
from edgeml.serving.transport import Address, Answer
from edgeml.serving.wire import Raw, raw_inputs

# Idle connections are renewed before a load balancer on the way forgets them.
_IDLE_S = 600.0
# Below this, one copy is cheaper than a system call more.
_JOINED_BYTES = 65536


@dataclass(eq=False)
class _Kept:
    """A connection, and when it was last used."""

    connection: http.client.HTTPConnection
    used: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class _Reply:
    status: int
    header_length: int | None
    body: bytes


class HttpTransport:
    """Connections to one server; see ``Transport``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._lost = False
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._busy: set[_Kept] = set()
        self._context = _context_of(address) if address.secure else None
        token = address.token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def is_ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Return whether the server says that it serves a model."""
        reply = self._exchange("GET", f"{_path(model, version)}/ready", timeout_s)
        if reply.status in (400, 404):
            return False
        self._check(reply, model, timeout_s)
        return True

    def versions(self, model: str, version: str, timeout_s: float) -> list[str]:
        """Return the versions that it serves."""
        return list(self._get(_path(model, version), model, timeout_s).get("versions", []))

    def config(self, model: str, version: str, timeout_s: float) -> Mapping[str, Any]:
        """Return a model's configuration, as values."""
        return self._get(f"{_path(model, version)}/config", model, timeout_s)

    def infer(
        self, served: Served, tensors: Tensors, *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send a checked feed."""
        rows = raw_inputs(served, tensors)
        return self.send(served, rows, model=model, version=version, timeout_s=timeout_s)

    def send(
        self, served: Served, rows: Sequence[Raw], *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send inputs that are raw bytes, or places in shared memory, already."""
        header, parts = make_message(served, rows, timeout_s=timeout_s)
        reply = self._exchange(
            "POST",
            f"{_path(model, version)}/infer",
            timeout_s,
            body=[header, *parts],
            headers={HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"},
        )
        self._check(reply, model, timeout_s)
        return read_answer(served, reply.body, reply.header_length)

    def register(self, name: str, *, key: str, size_bytes: int, timeout_s: float) -> None:
        """Make a segment of this machine's shared memory known to the server."""
        value = {"key": key, "offset": 0, "byte_size": size_bytes}
        self._manage(f"{name}/register", timeout_s, json.dumps(value).encode())

    def unregister(self, name: str, *, timeout_s: float) -> None:
        """Let the server forget a segment, or one that it never knew."""
        self._manage(f"{name}/unregister", timeout_s, b"")

    def take_lost(self) -> bool:
        """Return whether a connection was lost since the last time this was asked."""
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
            row.connection.close()

    def _get(self, path: str, model: str, timeout_s: float) -> dict[str, Any]:
        reply = self._exchange("GET", path, timeout_s)
        self._check(reply, model, timeout_s)
        try:
            value = json.loads(reply.body)
        except ValueError as exc:
            raise self._strange(f"something that is not JSON ({exc})") from exc
        if not isinstance(value, dict):
            raise self._strange("JSON that is no object")
        return value

    def _manage(self, path: str, timeout_s: float, body: bytes) -> None:
        place = f"/v2/systemsharedmemory/region/{path}"
        self._check(self._exchange("POST", place, timeout_s, body=[body]), "", timeout_s)

    def _check(self, reply: _Reply, model: str, timeout_s: float) -> None:
        if reply.status != 200:
            raise translate_status(
                reply.status,
                read_reason(reply.body),
                url=self._address.url,
                model=model,
                timeout_s=timeout_s,
            )

    def _strange(self, what: str) -> ServerError:
        return ServerError(
            f"the server answered with {what}; is this a Triton server?", url=self._address.url
        )

    def _exchange(
        self,
        method: str,
        path: str,
        timeout_s: float,
        *,
        body: list[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Reply:
        """Send and receive once; on a connection that lay idle and was closed, once more."""
        end = time.monotonic() + timeout_s
        sent = {**self._headers, **(headers or {})}
        while True:
            kept, fresh = self._take()
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
                if fresh:
                    raise self._unreachable(exc) from exc
                continue
            except BaseException:
                self._drop(kept)
                raise
            self._give_back(kept)
            return reply

    def _take(self) -> tuple[_Kept, bool]:
        """Return a connection for one call, and whether it is a new one."""
        with self._lock:
            if self._closed:
                raise ClosedError
            while self._idle:
                kept = self._idle.pop()
                if time.monotonic() - kept.used < _IDLE_S:
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

    def _unreachable(self, exc: Exception) -> ServerUnreachableError:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        return ServerUnreachableError(
            f"no server answers ({reason}); a running one was expected; start it: "
            "edgeml triton serve",
            url=self._address.url,
        )


def _context_of(address: Address) -> ssl.SSLContext:
    return ssl.create_default_context(
        cafile=None if address.root_certificates is None else str(address.root_certificates)
    )


def _path(model: str, version: str) -> str:
    name = quote(model, safe="")
    return f"/v2/models/{name}" + (f"/versions/{quote(version, safe='')}" if version else "")


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: list[bytes] | None,
    headers: Mapping[str, str],
    *,
    end: float,
) -> _Reply:
    """Send one request and read its whole answer before ``end``."""
    connection.timeout = _left(end)
    if connection.sock is None:
        connection.connect()
    _set_timeout(connection, end)
    size = sum(map(len, body or ()))
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(size))
        if size < _JOINED_BYTES:
            body = [b"".join(body)]
    connection.endheaders(None if not body else body[0])
    for part in (body or [])[1:]:
        _set_timeout(connection, end)
        connection.send(part)
    _set_timeout(connection, end)
    response = connection.getresponse()
    _set_timeout(connection, end)
    content = response.read()
    length = response.getheader(HEADER_LENGTH)
    if response.will_close:
        connection.close()
    return _Reply(
        status=response.status,
        header_length=int(length) if length and length.isdecimal() else None,
        body=content,
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
