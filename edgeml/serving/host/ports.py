"""Ports on the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from edgeml.errors import HostError, InputError

LOOPBACK = "127.0.0.1"


def check_ports(ports: Sequence[int]) -> None:
    """Refuse ports that cannot be listened on.

    Args:
        ports: Port numbers; 0 stands for any.

    Raises:
        InputError: They are not distinct or out of range.
        HostError: One is taken, or not allowed to this user.
    """
    named = [port for port in ports if port]
    if len(set(named)) != len(named):
        raise InputError(f"the ports {named} are not distinct; three different ones were expected")
    for port in named:
        if not 0 < port < 65536:
            raise InputError(f"the port is {port}; 1 to 65535, or 0 for a free one, was expected")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as exc:
                raise HostError(
                    what=f"port {port} cannot be used ({exc.strerror})",
                    needed="end the program that holds it, or name another port or 0",
                ) from exc


def free_ports(wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """Replace each 0 by a free port; all are held until all are found, so that they differ."""
    probes = []
    try:
        for _ in wanted:
            probe = socket.socket()
            probes.append(probe)
            probe.bind((LOOPBACK, 0))
        found = [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
    http, grpc, metrics = (port or free for port, free in zip(wanted, found, strict=True))
    return http, grpc, metrics
