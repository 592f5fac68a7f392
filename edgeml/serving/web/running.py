"""The app under uvicorn, in a thread of this process, on one address."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from edgeml.errors import HostError, InputError

_STARTS_IN_S = 30.0
_POLL_S = 0.005


class WebServer:
    """A running app; a context manager that stops it.

    Args:
        app: What answers.
        host: Address to listen on.
        port: 0 picks a free one.
        drain_s: Time that running requests are given at the end.

    Attributes:
        url: Where it is.

    Raises:
        InputError: The port is none.
        HostError: The address cannot be listened on.
    """

    def __init__(self, app: FastAPI, *, host: str, port: int, drain_s: float) -> None:
        listener = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _STARTS_IN_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise HostError(
                    what=f"the server at {self.url} did not start", needed="look at its log"
                )
            time.sleep(_POLL_S)

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Take no new requests, let those under way finish, and end; a second call does nothing."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise InputError(f"the port is {port}; 1 to 65535, or 0 for a free one, was expected")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise InputError(f"the host '{host}' is no address ({exc.strerror}); name one") from exc
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
        listener.listen(2048)
    except OSError as exc:
        listener.close()
        raise HostError(
            what=f"port {port} of {host} cannot be used ({exc.strerror})",
            needed="end the program that holds it, or name another port or 0",
        ) from exc
    return listener
