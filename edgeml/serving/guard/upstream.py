"""The guard's side towards the server: one kept connection for each of its clients' connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edgeml.serving.guard.checks import RefusedError
from edgeml.serving.guard.wire import PIECE_BYTES, Head, chunks, read_head
from edgeml.serving.host.ports import LOOPBACK

# These mean one connection, not the request; the body's end is told anew.
_OWN = {
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect"),
    "transfer-encoding",
}
_LAST = b"0\r\n\r\n"


class Upstream:
    """A connection to the server, made when it is needed.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, head: Head, pieces: AsyncIterator[bytes]) -> None:
        """Send a request.

        Args:
            head: Its head.
            pieces: Its body; the first piece is waited for before anything is sent.

        Raises:
            RefusedError: The server is not there, or ``pieces`` refuses the body.
        """
        first = await anext(pieces)
        writer = await self._connected()
        lines = [head.start, *(name.encode() + b": " + value for name, value in _kept(head))]
        if head.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        try:
            writer.write(b"\r\n".join([*lines, b"", b""]) + _framed(first, chunked=head.chunked))
            await writer.drain()
            async for piece in pieces:
                writer.write(_framed(piece, chunked=head.chunked))
                await writer.drain()
            if head.chunked:
                writer.write(_LAST)
        except (ConnectionError, BrokenPipeError) as exc:
            raise _gone(exc) from exc

    async def answer(self, head: Head, writer: asyncio.StreamWriter) -> bool:
        """Pass the server's answer to a request on.

        Args:
            head: The request's head.
            writer: Where it goes.

        Returns:
            Whether another request may follow on the connection.

        Raises:
            RefusedError: The server went away before it answered.
        """
        reader = self._reader
        assert reader is not None
        try:
            reply = await read_head(reader, answer=True)
        except ConnectionError as exc:
            raise _gone(exc) from exc
        if reply is None:
            raise _gone(None)
        keep = not head.old and (head.get("connection") or "").lower() != "close"
        length = reply.number("content-length")
        bare = head.method == "HEAD" or reply.status in (204, 304)
        if length is None and not reply.chunked and not bare:
            keep = False
        if (reply.get("connection") or "").lower() == "close":
            keep = False
        framed = reply.chunked and not bare and not head.old
        start = _answer_start(reply, framed=framed, keep=keep)
        if not bare:
            async for piece in _content(reader, reply, length):
                writer.write(start + _framed(piece, chunked=framed))
                start = b""
                await writer.drain()
        writer.write(start + (_LAST if framed else b""))
        await writer.drain()
        if not keep:
            self.close()
        return keep

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _connected(self) -> asyncio.StreamWriter:
        if self._reader is not None and (self._reader.at_eof() or self._reader.exception()):
            self.close()
        if self._writer is None:
            try:
                self._reader, self._writer = await asyncio.open_connection(
                    LOOPBACK, self._port, limit=PIECE_BYTES
                )
            except OSError as exc:
                raise RefusedError(
                    503, "the server is not there; it may be started again just now"
                ) from exc
        return self._writer


def _kept(head: Head) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in head.headers if name not in _OWN]


def _framed(piece: bytes, *, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece


def _answer_start(reply: Head, *, framed: bool, keep: bool) -> bytes:
    # Names are written in small letters, which HTTP allows.
    lines = [reply.start, *(name.encode() + b": " + value for name, value in _kept(reply))]
    if framed:
        lines.append(b"Transfer-Encoding: chunked")
    if not keep:
        lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", b""])


async def _content(
    reader: asyncio.StreamReader, reply: Head, length: int | None
) -> AsyncIterator[bytes]:
    """Yield the body of an answer."""
    if reply.chunked:
        try:
            async for piece in chunks(reader):
                yield piece
        except RefusedError as exc:
            raise ConnectionResetError("the server's answer is malformed") from exc
        return
    left = length
    while left is None or left:
        piece = await reader.read(PIECE_BYTES if left is None else min(PIECE_BYTES, left))
        if not piece:
            if left is None:
                return
            raise ConnectionResetError("the server left within its answer")
        left = None if left is None else left - len(piece)
        yield piece


def _gone(error: BaseException | None) -> RefusedError:
    reason = f" ({error})" if error is not None else ""
    return RefusedError(502, f"the server ended the connection without an answer{reason}")
