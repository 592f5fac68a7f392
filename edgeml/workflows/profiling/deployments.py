"""The deployments that a profile compares: started here, or at an address of the user's."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of deployment.

    Attributes:
        name: As it is asked for.
        schemes: Schemes of an address of the user's; empty where it has none.
        server: What answers: nothing of its own, ``http`` or ``triton``.
        about: What it is, for people.
    """

    name: str
    schemes: tuple[str, ...]
    server: str
    about: str


KINDS = {
    row.name: row
    for row in (
        Kind(name="edge", schemes=(), server="", about="in-process; callers wait in a queue"),
        Kind(
            name="http",
            schemes=("http",),
            server="http",
            about="edgeml serve: items as they are, answers as JSON",
        ),
        Kind(
            name="triton-grpc",
            schemes=("grpc", "grpcs"),
            server="triton",
            about="Triton over gRPC, raw tensors",
        ),
        Kind(
            name="triton-http",
            schemes=("http", "https"),
            server="triton",
            about="Triton over HTTP, binary extension",
        ),
        Kind(
            name="triton-http-json",
            schemes=("http",),
            server="triton",
            about="Triton over HTTP, tensors as JSON: its own row, never mixed with binary",
        ),
        Kind(
            name="triton-shm",
            schemes=("grpc", "http"),
            server="triton",
            about="Triton, inputs through this machine's shared memory",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One row's deployment.

    Attributes:
        kind: What it is.
        url: The user's address; None where it is in-process or started here.
        model: Name of the model on the user's Triton; empty for the bundle's.
    """

    kind: Kind
    url: str | None = None
    model: str = ""

    @property
    def name(self) -> str:
        """Its row's name."""
        return self.kind.name

    @property
    def placement(self) -> str:
        """``remote`` where another machine answers, else ``co-located``."""
        if self.url is None:
            return "co-located"
        return "co-located" if _is_here(urlsplit(self.url).hostname or "") else "remote"


def parse_targets(words: Sequence[str]) -> tuple[Deployment, ...]:
    """Return deployments from words such as ``edge`` or ``triton-grpc=grpc://host:8001``.

    Raises:
        InputError: A word is none, is named twice, or its address has another scheme.
    """
    found: dict[str, Deployment] = {}
    for word in words:
        one = _parse(word.strip())
        if one.name in found:
            raise InputError(f"the target '{one.name}' is named twice; once was expected")
        found[one.name] = one
    if not found:
        raise InputError(f"no target was named; some of {', '.join(KINDS)} were expected")
    return tuple(found.values())


def _parse(word: str) -> Deployment:
    name, given, url = word.partition("=")
    if name == "ray":
        raise InputError(
            "the target 'ray' cannot be profiled by this edgeml; "
            f"{', '.join(KINDS)} can; leave it out",
            item="targets",
        )
    kind = KINDS.get(name)
    if kind is None:
        raise InputError(
            f"'{name}' is no target; {', '.join(KINDS)} were expected; NAME=URL uses a server of "
            "yours",
            item="targets",
        )
    if not given:
        return Deployment(kind=kind)
    parts = urlsplit(url)
    if not kind.schemes:
        raise InputError(f"the target '{name}' takes no address; it runs here", item=word)
    try:
        usable = parts.scheme in kind.schemes and parts.hostname and parts.port
    except ValueError:
        usable = None
    if not usable:
        schemes = " or ".join(f"{scheme}://host:port" for scheme in kind.schemes)
        raise InputError(f"'{url}' is no address for {name}; {schemes} was expected", item=word)
    if kind.server == "triton":
        bare = f"{parts.scheme}://{parts.netloc}"
        return Deployment(kind=kind, url=bare, model=parts.path.strip("/"))
    return Deployment(kind=kind, url=url.rstrip("/"))


def _is_here(host: str) -> bool:
    """Return whether an address is this machine's: only then could we listen on it."""
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(host, 0):
            if ipaddress.ip_address(str(place[0]).split("%")[0]).is_loopback:
                return True
            with socket.socket(family, kind, protocol) as probe:
                probe.bind((place[0], 0))
                return True
    except OSError:
        return False
    return False
