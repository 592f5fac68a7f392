"""Inputs through this machine's shared memory instead of through a socket.

A request takes a segment, writes its inputs there and names it to the server. The segment's name is
removed as soon as the server has opened it: whatever becomes of this process, no file stays behind.
Outputs come back in the answer. A server that answers too late could otherwise write into memory
that belongs to the next request.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import Tensors
from edgeml.errors import EdgemlError, HostError, ServerError, ServerTimeoutError
from edgeml.serving.client.served import Served
from edgeml.serving.client.transport import Answer, Transport
from edgeml.serving.client.wire import InRegion, Raw, wire_arrays
from edgeml.serving.host.leftovers import new_token

SHARED_MEMORY = Path("/dev/shm")
_ALIGNMENT = 64
_SMALLEST_BYTES = 4096
# So long the server may still read what a caller has given up.
_REST_S = 60.0
_GOODBYE_S = 1.0
_LOST_REGION = "shared memory region"


@dataclass(eq=False, kw_only=True)
class Region:
    """A segment that the server knows.

    Attributes:
        name: Under which it knows it.
        memory: The segment, mapped here.
        free_at: Until then a request that was given up may still be read from it.
    """

    name: str
    memory: mmap.mmap
    free_at: float = 0.0

    def fill(self, rows: Sequence[tuple[str, str, tuple[int, ...], npt.NDArray[Any]]]) -> list[Raw]:
        """Write inputs one behind the other, and return them as places in this segment.

        Args:
            rows: Name, type on the wire, shape and values of each.
        """
        placed: list[Raw] = []
        offset = 0
        for name, datatype, shape, array in rows:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.memory[offset : offset + flat.nbytes] = flat.data
            placed.append((name, datatype, shape, InRegion(self.name, flat.nbytes, offset)))
            offset += _aligned(flat.nbytes)
        return placed


class SharedMemoryTransport:
    """A transport whose inputs go through shared memory; see ``Transport``.

    Args:
        inner: Speaks with a server on this machine.
        url: That server, for errors.
    """

    def __init__(self, inner: Transport, *, url: str) -> None:
        self._inner = inner
        self._url = url
        self._lock = threading.Lock()
        self._idle: list[Region] = []
        self._goodbye = weakref.finalize(self, _forget_all, inner, self._idle)

    def is_ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Return whether the server says that it serves a model."""
        return self._inner.is_ready(model, version, timeout_s)

    def versions(self, model: str, version: str, timeout_s: float) -> list[str]:
        """Return the versions that it serves."""
        return self._inner.versions(model, version, timeout_s)

    def config(self, model: str, version: str, timeout_s: float) -> Mapping[str, Any]:
        """Return a model's configuration, as values."""
        return self._inner.config(model, version, timeout_s)

    def infer(
        self, served: Served, tensors: Tensors, *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send a checked feed through a segment.

        Raises:
            HostError: The shared memory of this machine is full.
        """
        end = time.monotonic() + timeout_s
        rows = wire_arrays(served, tensors)
        size = sum(_aligned(array.nbytes) for *_, array in rows)
        known = False
        while True:
            with self._lent(size, end=end, timeout_s=timeout_s) as region:
                placed = region.fill(rows)
                left = self._left(end, timeout_s)
                try:
                    return self._inner.send(
                        served, placed, model=model, version=version, timeout_s=left
                    )
                except ServerError as exc:
                    # Another server is there by now, which was not told: it is, once.
                    if known or _LOST_REGION not in str(exc):
                        raise
                    region.name, known = "", True

    def send(
        self,
        served: Served,
        rows: Sequence[Raw],
        *,
        model: str,
        version: str,
        timeout_s: float,
    ) -> Answer:
        """Send inputs as they are."""
        return self._inner.send(served, rows, model=model, version=version, timeout_s=timeout_s)

    def register(self, name: str, *, key: str, size_bytes: int, timeout_s: float) -> None:
        """Make a segment known to the server."""
        self._inner.register(name, key=key, size_bytes=size_bytes, timeout_s=timeout_s)

    def unregister(self, name: str, *, timeout_s: float) -> None:
        """Let the server forget a segment."""
        self._inner.unregister(name, timeout_s=timeout_s)

    def take_lost(self) -> bool:
        """Return whether a connection was lost since the last time this was asked."""
        return self._inner.take_lost()

    def close(self) -> None:
        """Let the server forget every segment that no request uses, and close the connection."""
        self._goodbye()
        self._inner.close()

    @contextlib.contextmanager
    def _lent(self, size_bytes: int, *, end: float, timeout_s: float) -> Iterator[Region]:
        """Lend a segment to one request; one that is given up rests before the next has it."""
        region = self._take(size_bytes)
        if region is None:
            region = self._make(size_bytes, timeout_s=self._left(end, timeout_s))
        try:
            yield region
        except ServerError as exc:
            if isinstance(exc, (ConnectionError, TimeoutError)):
                region.free_at = time.monotonic() + _REST_S
            raise
        except BaseException:
            region.free_at = time.monotonic() + _REST_S
            raise
        finally:
            self._give_back(region)

    def _take(self, size_bytes: int) -> Region | None:
        """Return the last used segment that is large enough; a smaller one is replaced."""
        now = time.monotonic()
        with self._lock:
            free = [row for row in self._idle if row.free_at <= now]
            fitting = [row for row in free if len(row.memory) >= size_bytes]
            region = fitting[-1] if fitting else None
            outgrown = free[-1] if free and region is None else None
            for row in (region, outgrown):
                if row is not None:
                    self._idle.remove(row)
        if outgrown is not None:
            _forget(self._inner, outgrown)
        return region

    def _make(self, size_bytes: int, *, timeout_s: float) -> Region:
        size = max(_SMALLEST_BYTES, 1 << (size_bytes - 1).bit_length())
        name = f"{new_token()}inputs"
        path = SHARED_MEMORY / name
        try:
            memory = _allocate(path, size)
            try:
                self._inner.register(name, key=f"/{name}", size_bytes=size, timeout_s=timeout_s)
            except BaseException as exc:
                memory.close()
                if type(exc) is ServerError:
                    exc.add_note("a server in a container, or of another user, has other memory")
                raise
        finally:
            path.unlink(missing_ok=True)
        return Region(name=name, memory=memory)

    def _give_back(self, region: Region) -> None:
        with self._lock:
            if region.name and self._goodbye.alive:
                self._idle.append(region)
                return
        region.memory.close()

    def _left(self, end: float, timeout_s: float) -> float:
        left = end - time.monotonic()
        if left <= 0:
            raise ServerTimeoutError(url=self._url, timeout_s=timeout_s)
        return left


def _allocate(path: Path, size_bytes: int) -> mmap.mmap:
    """Make a segment that surely has its memory: a write beyond it would end this process.

    Raises:
        HostError: There is not so much.
    """
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size_bytes)
            return mmap.mmap(file, size_bytes)
        finally:
            os.close(file)
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT)
        what = "is full" if full else f"cannot be used ({exc.strerror})"
        raise HostError(
            what=f"the shared memory of this machine, {SHARED_MEMORY}, {what}",
            needed=f"{size_bytes} bytes are needed there; free or enlarge it, or connect without "
            "shared_memory",
        ) from exc


def _forget(transport: Transport, region: Region) -> None:
    """Let the server forget a segment that no request uses; it may be gone, or another one."""
    region.memory.close()
    with contextlib.suppress(EdgemlError):
        transport.unregister(region.name, timeout_s=_GOODBYE_S)


def _forget_all(transport: Transport, idle: list[Region]) -> None:
    """Forget every segment at the end; from under a request that was given up none is taken."""
    now = time.monotonic()
    while idle:
        region = idle.pop()
        if region.free_at <= now:
            _forget(transport, region)
        else:
            region.memory.close()


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
