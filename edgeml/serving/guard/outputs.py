"""Which outputs of a model are strings: the server is asked, because the guard knows no model.

Triton 2.51 divides by the size of an element to find the classes of an output. A string has none,
so one request for the classes of a label ends the server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from edgeml.serving.guard.checks import RefusedError
from edgeml.serving.guard.wire import PIECE_BYTES, read_head
from edgeml.serving.host.ports import LOOPBACK

_TIMEOUT_S = 10.0
_MOST_BYTES = 16 << 20


async def check_classes(port: int, target: str, asked: Sequence[str]) -> None:
    """Refuse a request for the classes of an output that is made of strings.

    Args:
        port: The server's port.
        target: The path that the request was sent to.
        asked: Names of the outputs whose classes it asks for.

    Raises:
        RefusedError: One of them is of strings, or the server does not say.
    """
    if not asked:
        return
    path = target.partition("?")[0].removesuffix("/infer")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            described = await _get(port, path)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as exc:
        raise RefusedError(503, "the server does not say what its outputs are") from exc
    rows = described.get("outputs", [])
    strings = {row["name"] for row in rows if row["datatype"] == "BYTES"}
    for name in asked:
        if name in strings:
            raise RefusedError(
                400,
                f"the output '{name[:100]}' is of strings and has no classes; ask for it without "
                "'classification'",
            )


async def _get(port: int, path: str) -> dict[str, list[dict[str, str]]]:
    """Return what the server says of a model; nothing of one that it does not serve."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=PIECE_BYTES)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
        )
        head = await read_head(reader, answer=True)
        if head is None:
            raise ConnectionResetError
        body = await reader.readexactly(min(head.number("content-length") or 0, _MOST_BYTES))
    finally:
        writer.close()
    return dict(json.loads(body)) if head.status == 200 else {}
