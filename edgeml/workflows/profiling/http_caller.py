"""One caller's connection to an app: kept open, one request at a time, nothing retried."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from edgeml.errors import (
    InputError,
    RequestRefusedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)

_REFUSALS = (429, 503)


class HttpCaller:
    """A connection to one app.

    Args:
        url: Its address; without a path ``/predict`` is asked.
        timeout_s: Time allowed for each answer.

    Attributes:
        path: Where it is asked.
        timing: The ``Server-Timing`` header of the last answer, by name, in milliseconds.
        num_bytes: Size of the last answer.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"'{url}' is no address; http://host:port was expected")
        self._url, self._timeout_s = url, timeout_s
        self.path = parts.path if parts.path not in ("", "/") else "/predict"
        self._connection = http.client.HTTPConnection(
            parts.hostname, parts.port or 80, timeout=timeout_s
        )
        self.timing: dict[str, float] = {}
        self.num_bytes = 0

    def post(self, body: bytes, kind: str, *, path: str | None = None) -> Any:
        """Send a body and return the answer's JSON.

        Raises:
            RequestRefusedError: The app is full.
            ServerTimeoutError: It did not answer in time.
            ServerUnreachableError: Nobody answers there.
            ServerError: It answered with an error, or not with JSON.
        """
        return self._read(*self.exchange("POST", path or self.path, body, kind))

    def get(self, path: str) -> Any:
        """Return the JSON at a path; raises as :meth:`post` does."""
        return self._read(*self.exchange("GET", path, None, ""))

    def exchange(self, method: str, path: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
        """Send a request and return status and contents; raises as :meth:`post` does."""
        headers = {"Content-Type": kind} if kind else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            contents = answer.read()
        except TimeoutError as exc:
            self._connection.close()
            raise ServerTimeoutError(url=self._url, timeout_s=self._timeout_s) from exc
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            text = f"no answer ({type(exc).__name__}); a running server was expected"
            raise ServerUnreachableError(text, url=self._url) from exc
        self.timing = _timing(answer.getheader("Server-Timing") or "")
        self.num_bytes = len(contents)
        return answer.status, contents

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read(self, status: int, contents: bytes) -> Any:
        try:
            value = json.loads(contents)
        except ValueError:
            value = {"error": contents[:80].decode("utf-8", "replace")}
        if status == 200:
            return value
        said = value.get("error", value) if isinstance(value, dict) else value
        text = f"it answered {status}: {said}"
        if status in _REFUSALS:
            raise RequestRefusedError(text, url=self._url)
        raise ServerError(text, url=self._url)


def _timing(header: str) -> dict[str, float]:
    found = {}
    for entry in filter(None, header.split(",")):
        name, _, value = entry.partition(";dur=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            continue
    return found
