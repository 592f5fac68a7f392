"""Whom a client trusts: read once, in the same way for gRPC and HTTP."""

from __future__ import annotations

import ssl

from edgeml.errors import InputError
from edgeml.serving.client.transport import Address


def context_of(address: Address) -> ssl.SSLContext:
    """Return the standard library's context for a server; gRPC needs it as a check of the file.

    Raises:
        InputError: The certificates cannot be read, or the file holds none.
    """
    file = address.root_certificates
    try:
        return ssl.create_default_context(cafile=None if file is None else str(file))
    except OSError as exc:
        raise InputError(
            f"the certificates cannot be used ({exc}); a PEM file was expected", item=str(file)
        ) from exc
