"""How an engine reaches a server: gRPC or HTTP, behind one protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy.typing as npt

from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.serving.client.served import Served
from edgeml.serving.client.wire import Raw

_SECURE = {"grpc": False, "grpcs": True, "http": False, "https": True}
_LOOPBACK = ("localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is, and what opens its door.

    Attributes:
        url: As it was given.
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``.
        host: Name or address.
        port: Its port.
        token: Sent with each request as ``authorization: Bearer``; None sends none.
        root_certificates: PEM file of whoever signed the server's certificate; None trusts whom
            the system trusts.
        client_certificate: PEM files of our own certificate and of its key, for a server that asks
            who is there; None shows none.
    """

    url: str
    scheme: str
    host: str
    port: int
    token: str | None = None
    root_certificates: Path | None = None
    client_certificate: tuple[Path, Path] | None = None

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return _SECURE[self.scheme]

    @property
    def target(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether it is this machine's loopback address."""
        return self.host in _LOOPBACK or self.host.startswith("127.")


def address_of(
    url: str,
    *,
    token: str | None = None,
    root_certificates: str | Path | None = None,
    client_certificate: tuple[str | Path, str | Path] | None = None,
) -> Address:
    """Read a URL.

    Args:
        url: ``grpc://host:port``, ``http://host:port``, or ``grpcs`` and ``https`` for TLS.
        token: Bearer token.
        root_certificates: PEM file.
        client_certificate: PEM files of a certificate and of its key.

    Raises:
        InputError: It is another kind of URL, certificates are given for a plain one or cannot be
            read, or a token would be sent in the clear.
    """
    expected = "grpc://host:port or http://host:port (grpcs, https for TLS) was expected"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InputError(f"the URL is '{url}' ({exc}); {expected}") from exc
    if parts.scheme not in _SECURE or not parts.hostname or port is None:
        raise InputError(f"the URL is '{url}'; {expected}; Triton's ports are 8001 and 8000")
    if parts.path.strip("/") or parts.query or parts.username:
        raise InputError(f"the URL is '{url}'; nothing after the port was expected; {expected}")
    certificates = None if root_certificates is None else Path(root_certificates)
    pair = None if client_certificate is None else _pair_of(client_certificate)
    address = Address(
        url=url,
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        token=token,
        root_certificates=certificates,
        client_certificate=pair,
    )
    files = [*([] if certificates is None else [certificates]), *(pair or ())]
    if files and not address.secure:
        raise InputError(f"the URL is '{url}' and certificates are given; grpcs or https was meant")
    for file in files:
        if not file.is_file():
            raise InputError(f"'{file}' is no file; a PEM file of certificates was expected")
    if token is not None and not (address.secure or address.local):
        raise InputError(
            f"a token for '{url}' would be sent in the clear; TLS was expected; use grpcs or https"
        )
    if token is not None and (not token.isascii() or not token.isprintable()):
        raise InputError("the token holds a control or non-ASCII character; plain ASCII was meant")
    return address


def _pair_of(files: tuple[str | Path, str | Path]) -> tuple[Path, Path]:
    if isinstance(files, str | Path) or len(files) != 2:
        raise InputError(
            f"client_certificate is {files!r}; a pair of PEM files was expected: certificate, key"
        )
    return Path(files[0]), Path(files[1])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered to a feed.

    Attributes:
        version: The version that answered.
        outputs: Output name to array, each the caller's own.
    """

    version: str
    outputs: Mapping[str, npt.NDArray[Any]]


class Transport(Protocol):
    """A connection to one server. Safe to call from several threads.

    Every method takes the seconds that are allowed, and raises the errors of ``errors.py``:
    ServerUnreachableError, ServerTimeoutError, ModelNotReadyError and ServerError, and ClosedError
    after ``close``.
    """

    def is_ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Return whether the server says that it serves a model."""
        ...

    def versions(self, model: str, version: str, timeout_s: float) -> list[str]:
        """Return the versions that it serves."""
        ...

    def config(self, model: str, version: str, timeout_s: float) -> Mapping[str, Any]:
        """Return a model's configuration, as values."""
        ...

    def infer(
        self, served: Served, tensors: Tensors, *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send a checked feed. ValueError where the answer is not what the contract says."""
        ...

    def send(
        self, served: Served, rows: Sequence[Raw], *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send inputs that are raw bytes, or places in shared memory, already."""
        ...

    def register(self, name: str, *, key: str, size_bytes: int, timeout_s: float) -> None:
        """Make a segment of this machine's shared memory known to the server."""
        ...

    def unregister(self, name: str, *, timeout_s: float) -> None:
        """Let the server forget a segment, or one that it never knew."""
        ...

    def take_lost(self) -> bool:
        """Return whether a connection was lost since the last time this was asked."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def checked_timeout(timeout_s: float) -> float:
    """Return a time that is one.

    Raises:
        InputError: It is not positive and finite.
    """
    if not 0 < timeout_s < math.inf:
        raise InputError(f"timeout_s is {timeout_s:g}; a positive, finite time was expected")
    return timeout_s
