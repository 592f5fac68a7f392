"""A small HTTP proxy before a server, which refuses what would kill it.

It listens on the port that was asked for, and the server behind it on another one of the loopback
address. It knows no model: it bounds bodies and JSON, and lets inference through.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator

from edgeml.errors import HostError
from edgeml.serving.guard.checks import GuardLimits, RefusedError, check_json, check_path
from edgeml.serving.guard.outputs import check_classes
from edgeml.serving.guard.upstream import Upstream
from edgeml.serving.guard.wire import PIECE_BYTES, Head, body_of, read_head
from edgeml.serving.host.ports import LOOPBACK

_IDLE_S = 120.0
_LINGER_S = 2.0
_INLINE_BYTES = 64 << 10
_MOST_CONNECTIONS = 1024
_REASONS = {400: "Bad Request", 413: "Content Too Large", 431: "Request Header Fields Too Large"}
_LENGTH = "inference-header-content-length"


class Guard:
    """A proxy in a thread of its own, from its making until ``stop``.

    Args:
        port: Port to listen on; 0 picks a free one.
        server_port: Port of the server behind it, which need not be there yet.
        limits: What it refuses.

    Raises:
        HostError: The port cannot be used.
    """

    def __init__(self, *, port: int, server_port: int, limits: GuardLimits) -> None:
        self._server_port, self._limits = server_port, limits
        try:
            self._socket = socket.create_server((LOOPBACK, port), backlog=256)
        except OSError as exc:
            raise HostError(
                what=f"port {port} cannot be used ({exc.strerror})",
                needed="end the program that holds it, or name another port or 0",
            ) from exc
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-guard", daemon=True)
        self._thread.start()
        self._listening.wait()

    def drain(self) -> None:
        """Take no new connections; requests that run go on."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.close)

    def stop(self) -> None:
        """End all connections and the thread; a second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        self._ended = asyncio.Event()
        self._server = await asyncio.start_server(
            self._accept, sock=self._socket, limit=PIECE_BYTES
        )
        self._listening.set()
        await self._ended.wait()
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream = Upstream(self._server_port)
        try:
            if len(self._connections) > _MOST_CONNECTIONS:
                raise RefusedError(503, "there are too many connections")
            while await self._exchange(reader, writer, upstream):
                pass
        except RefusedError as exc:
            await _refuse(reader, writer, exc)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass  # one side has left, or has said nothing for too long, or the guard ends
        finally:
            self._connections.discard(task)
            upstream.close()
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream
    ) -> bool:
        """Pass one request on and its answer back; return whether another one may follow."""
        async with asyncio.timeout(_IDLE_S):
            head = await read_head(reader)
        if head is None:
            return False
        check_path(head.method, head.target, self._limits)
        pieces = self._checked(head, reader, writer)
        await upstream.send(head, pieces)
        return await upstream.answer(head, writer)

    async def _checked(
        self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[bytes]:
        """Yield the body of a request, the first piece once its JSON has been looked at."""
        limit, length = self._limits.max_body_bytes, head.number("content-length")
        of_json = head.number(_LENGTH)
        if length is not None and length > limit:
            raise RefusedError(413, f"the body is {length} bytes; at most {limit} pass")
        if of_json is not None and length is not None and of_json > length:
            raise RefusedError(400, f"the body is shorter than its JSON of {of_json} bytes")
        if (head.get("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = body_of(reader, head, limit=limit)
        async with asyncio.timeout(_IDLE_S):
            if length is not None and length <= PIECE_BYTES:
                # Most bodies are small: one piece costs a third of what several do.
                start = await reader.readexactly(length)
            else:
                start = await _first_pieces(body, of_json)
        await self._check(start if of_json is None else start[:of_json], head.target)
        yield start
        while length is None or length > PIECE_BYTES:
            async with asyncio.timeout(_IDLE_S):
                piece = await anext(body, b"")
            if not piece:
                return
            yield piece

    async def _check(self, text: bytes, target: str) -> None:
        if len(text) <= _INLINE_BYTES:
            asked = check_json(text, target=target, limits=self._limits)
        else:
            asked = await asyncio.to_thread(check_json, text, target=target, limits=self._limits)
        await check_classes(self._server_port, target, asked)


async def _first_pieces(body: AsyncIterator[bytes], wanted: int | None) -> bytes:
    """Return the start of a body: as many bytes as wanted or a few more, or all of it."""
    start = bytearray()
    while wanted is None or len(start) < wanted:
        piece = await anext(body, b"")
        if not piece:
            break
        start += piece
    return bytes(start)


async def _refuse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: RefusedError
) -> None:
    """Answer with an error and end the connection, so that the answer arrives all the same."""
    body = json.dumps({"error": str(error)}).encode()
    head = (
        f"HTTP/1.1 {error.status} {_REASONS.get(error.status, 'Unavailable')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    again = "Retry-After: 1\r\n" if error.status == 503 else ""
    try:
        writer.write((head + again + "\r\n").encode() + body)
        await writer.drain()
        writer.write_eof()
        # What still comes is read and dropped: closing before would take the answer back.
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(PIECE_BYTES):
                pass
    except (OSError, TimeoutError):
        pass
