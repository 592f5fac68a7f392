"""The inference protocol over HTTP, with its binary extension: no tensor ever becomes JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from edgeml.core.signature import Tensors
from edgeml.errors import ServerError
from edgeml.serving.client.faults import translate_status
from edgeml.serving.client.http_connections import HttpConnections, Reply
from edgeml.serving.client.http_wire import HEADER_LENGTH, make_message, read_answer, read_reason
from edgeml.serving.client.served import Served
from edgeml.serving.client.transport import Address, Answer
from edgeml.serving.client.wire import Raw, raw_inputs


class HttpTransport:
    """Connections to one server; see ``Transport``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connections = HttpConnections(address)

    def is_ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Return whether the server says that it serves a model."""
        reply = self._connections.exchange("GET", f"{_path(model, version)}/ready", timeout_s)
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
        reply = self._connections.exchange(
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
        return self._connections.take_lost()

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        self._connections.close()

    def _get(self, path: str, model: str, timeout_s: float) -> dict[str, Any]:
        reply = self._connections.exchange("GET", path, timeout_s)
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
        reply = self._connections.exchange("POST", place, timeout_s, body=[body])
        self._check(reply, "", timeout_s)

    def _check(self, reply: Reply, model: str, timeout_s: float) -> None:
        if reply.status != 200:
            raise translate_status(
                reply.status,
                read_reason(reply.body),
                url=self._address.url,
                model=model,
                timeout_s=timeout_s,
                late=reply.late,
            )

    def _strange(self, what: str) -> ServerError:
        return ServerError(
            f"the server answered with {what}; is this a Triton server?", url=self._address.url
        )


def _path(model: str, version: str) -> str:
    name = quote(model, safe="")
    return f"/v2/models/{name}" + (f"/versions/{quote(version, safe='')}" if version else "")
