"""Whom a client trusts, and as whom it comes: read once, in the same way for gRPC and HTTP."""

from __future__ import annotations

import ssl

from edgeml.errors import InputError
from edgeml.serving.client.transport import Address


def context_of(address: Address) -> ssl.SSLContext:
    """Return the standard library's context for a server; gRPC needs it as a check of the file.

    Raises:
        InputError: The certificates cannot be read, a file holds none, or a key is not its
            certificate's or needs a password.
    """
    file = address.root_certificates
    try:
        context = ssl.create_default_context(cafile=None if file is None else str(file))
    except OSError as exc:
        raise InputError(
            f"the certificates cannot be used ({exc}); a PEM file was expected", item=str(file)
        ) from exc
    if address.client_certificate is not None:
        certificate, key = address.client_certificate
        try:
            # A password is never asked for at the terminal: an empty one fails instead.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as exc:
            raise InputError(
                f"the client's certificate cannot be used with the key '{key}' ({exc}); PEM files "
                "of a certificate and of its own key, without a password, were expected",
                item=str(certificate),
            ) from exc
    return context
