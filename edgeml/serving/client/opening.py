"""From an address to a connection."""

from __future__ import annotations

from edgeml.errors import InputError
from edgeml.serving.client.grpc_transport import GrpcTransport
from edgeml.serving.client.http_transport import HttpTransport
from edgeml.serving.client.shared_memory import SharedMemoryTransport
from edgeml.serving.client.transport import Address, Transport


def open_transport(address: Address, *, shared_memory: bool) -> Transport:
    """Open what speaks with a server.

    Args:
        address: Where it is.
        shared_memory: Whether inputs go through this machine's shared memory.

    Raises:
        InputError: The server is not on this machine, or the certificates cannot be read.
    """
    if shared_memory and not address.local:
        raise InputError(
            f"shared memory is asked for with '{address.url}'; a server on this machine's loopback "
            "address was expected; connect without shared_memory"
        )
    transport = (GrpcTransport if address.scheme.startswith("grpc") else HttpTransport)(address)
    return SharedMemoryTransport(transport, url=address.url) if shared_memory else transport
