"""HTTP/1.1 as a guard reads it: strict where two readers could disagree about where a body ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from edgeml.serving.guard.checks import RefusedError

MAX_HEAD_BYTES = 64 << 10
PIECE_BYTES = 256 << 10
_MOST_TRAILERS = 32
# After so many chunks they have to hold so many bytes on average: each costs the guard some time.
_SMALL_CHUNKS, _SMALL_BYTES = 4096, 64
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;.*)?\r\n")
_ONCE = (
    "content-length",
    "transfer-encoding",
    "inference-header-content-length",
    "expect",
    "content-encoding",
)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first lines of a request or an answer.

    Attributes:
        start: The first line.
        headers: Name in small letters and value, in their order.
        target: Path and query of a request; empty for an answer.
        method: Of a request; empty for an answer.
        status: Of an answer; 0 for a request.
        old: Whether a request is HTTP/1.0.
    """

    start: bytes
    headers: tuple[tuple[str, bytes], ...]
    target: str = ""
    method: str = ""
    status: int = 0
    old: bool = False

    def get(self, name: str) -> str | None:
        """Return the first header of a name, or None."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return (self.get("transfer-encoding") or "").lower() == "chunked"

    def number(self, name: str) -> int | None:
        """Return a header that is a whole number, or None.

        Raises:
            RefusedError: It is not one.
        """
        text = self.get(name)
        if text is not None and not _NUMBER.fullmatch(text):
            raise RefusedError(400, f"the header {name} is {text[:50]!r}; a number was expected")
        return None if text is None else int(text)


async def read_head(reader: asyncio.StreamReader, *, answer: bool = False) -> Head | None:
    """Read the first lines of a message.

    Args:
        reader: Where it comes from.
        answer: Whether it is an answer, which the server wrote and is not judged.

    Returns:
        The head; None where the other side has ended the connection before one.

    Raises:
        RefusedError: It is too long, malformed, or two readers could understand it differently.
    """
    try:
        text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial.strip():
            raise RefusedError(400, "the request ended within its headers") from exc
        return None
    except asyncio.LimitOverrunError as exc:
        raise RefusedError(431, "the headers are too long") from exc
    if len(text) > MAX_HEAD_BYTES:
        raise RefusedError(431, "the headers are too long")
    start, *lines = text.strip(b"\r\n").split(b"\r\n")
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RefusedError(400, f"the header line {line[:50]!r} is malformed")
        headers.append((match[1].decode("ascii").lower(), match[2]))
    if answer:
        status = _STATUS.fullmatch(start)
        if status is None:
            raise RefusedError(502, "the server's answer is no HTTP")
        return Head(start=start, headers=tuple(headers), status=int(status[1]))
    return _request(start, tuple(headers))


def _request(start: bytes, headers: tuple[tuple[str, bytes], ...]) -> Head:
    match = _REQUEST.fullmatch(start)
    if match is None:
        raise RefusedError(400, f"the request line {start[:50]!r} is malformed")
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise RefusedError(400, f"the header {name} came twice")
    head = Head(
        start=start,
        headers=headers,
        target=match[2].decode("latin-1"),
        method=match[1].decode("ascii"),
        old=match[3] == b"0",
    )
    if "transfer-encoding" in names and ("content-length" in names or not head.chunked):
        raise RefusedError(400, "the length of the body is ambiguous")
    if (head.get("content-encoding") or "identity").lower() != "identity":
        raise RefusedError(400, "the body is compressed; a plain one was expected")
    return head


async def body_of(reader: asyncio.StreamReader, head: Head, *, limit: int) -> AsyncIterator[bytes]:
    """Yield the body of a request in pieces.

    Args:
        reader: Where it comes from.
        head: Its head.
        limit: Most bytes of all pieces together.

    Raises:
        RefusedError: It is larger, or a chunk is malformed.
        IncompleteReadError: The other side left.
    """
    if not head.chunked:
        left = head.number("content-length") or 0
        while left:
            piece = await reader.read(min(PIECE_BYTES, left))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
        return
    # Triton 2.51 runs out of stack where a body comes in some hundred thousand chunks: it gets
    # fewer and larger ones than came.
    total = count = 0
    held = bytearray()
    async for piece in chunks(reader):
        count, total = count + 1, total + len(piece)
        if total > limit:
            raise RefusedError(413, f"the body is larger than {limit} bytes")
        if count > _SMALL_CHUNKS and total < count * _SMALL_BYTES:
            raise RefusedError(
                400, f"the body comes in chunks of {total // count} bytes; send larger"
            )
        held += piece
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield what is in the chunks of a body, in pieces; trailers are dropped.

    Raises:
        RefusedError: A chunk is malformed.
        IncompleteReadError: The other side left.
    """
    while True:
        match = _CHUNK.fullmatch(await _line(reader))
        if match is None:
            raise RefusedError(400, "a chunk of the body is malformed")
        left = int(match[1], 16)
        if not left:
            break
        while left:
            piece = await reader.read(min(PIECE_BYTES, left))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
        if await reader.readexactly(2) != b"\r\n":
            raise RefusedError(400, "a chunk of the body is malformed")
    for _ in range(_MOST_TRAILERS):
        if await _line(reader) == b"\r\n":
            return
    raise RefusedError(400, "too many trailers follow the body")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError as exc:
        raise RefusedError(400, "a line of the body is too long") from exc
