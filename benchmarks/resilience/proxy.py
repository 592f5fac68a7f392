"""A network that can be made bad: a TCP proxy in this process that delays, or falls silent.

It stands in for what a kernel's traffic shaping would do, and says so wherever figures are quoted:
a *user-space* proxy. It delays bytes, not packets: nothing is lost, reordered or sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self

_CHUNK = 65536
_TICK_S = 0.01


class Proxy:
    """Passes connections on to a port of this machine; a context manager.

    Args:
        port: Where the server listens.

    Attributes:
        port: Where the proxy listens.
        silent: Whether nothing passes any more: connections are left open, new ones are accepted
            by the kernel alone, and no byte goes either way.
        there_s: Seconds by which what clients send is delayed.
        back_s: Seconds by which what the server answers is delayed.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.silent = False
        self.there_s = 0.0
        self.back_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=128)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted close now

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self._wait_while_silent()
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers.add(there[1])
        await asyncio.gather(
            self._pass(reader, there[1], "there_s"), self._pass(there[0], writer, "back_s")
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: str
    ) -> None:
        """Pass bytes on, each so much later than it came; the reader never waits for the delay."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(line, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await line.put((self._loop.time() + getattr(self, delay), data))
        await line.put((self._loop.time() + getattr(self, delay), b""))
        await sender

    async def _send(
        self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await line.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._wait_while_silent()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _wait_while_silent(self) -> None:
        while self.silent:
            await asyncio.sleep(_TICK_S)
