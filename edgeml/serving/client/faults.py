"""What gRPC, HTTP and Triton report, as edgeml's own errors."""

from __future__ import annotations

from typing import Any

import grpc

from edgeml.errors import (
    ModelNotReadyError,
    RequestRefusedError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
)

# Triton uses one status for "I am not there", "I do not serve this" and "I have too much to do".
_EXPIRED = "request timeout expired"
_OVERLOADED = ("exceeds maximum queue size", _EXPIRED)
_NOT_SERVED = ("unknown model", "is not ready", "no available versions", "not healthy")
_FULL = "shared memory pool"
_OF_TLS = ("certificate", "ssl")


def translate(
    error: Any, *, url: str, model: str, timeout_s: float, late: bool = False
) -> ServerError:
    """Return the error of edgeml that says what a gRPC error means.

    Args:
        error: A ``grpc.RpcError``.
        url: The server.
        model: The model that was asked for.
        timeout_s: The time that was allowed.
        late: Whether it is over.
    """
    code = error.code()
    details = " ".join(str(error.details() or "").split())
    if late and _EXPIRED in details.lower():  # the caller's own time, which the server was told
        return ServerTimeoutError(url=url, timeout_s=timeout_s)
    known = _known(details, not_found=code is grpc.StatusCode.NOT_FOUND, url=url, model=model)
    if known is not None:
        return known
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerTimeoutError(url=url, timeout_s=timeout_s)
    if code is grpc.StatusCode.UNAVAILABLE:
        return unreachable(details, url=url)
    kind = RequestRefusedError if code is grpc.StatusCode.INVALID_ARGUMENT else ServerError
    return kind(f"the server answered {code.name}: {details}", url=url)


def translate_status(
    status: int, details: str, *, url: str, model: str, timeout_s: float, late: bool = False
) -> ServerError:
    """Return the error of edgeml that says what an HTTP status means.

    Args:
        status: Of the answer; not 200.
        details: What the server said of it, in one line.
        url: The server.
        model: The model that was asked for.
        timeout_s: The time that was allowed.
        late: Whether it is over.
    """
    if late and _EXPIRED in details.lower():
        return ServerTimeoutError(url=url, timeout_s=timeout_s)
    known = _known(details, not_found=status == 404, url=url, model=model)
    if known is not None:
        return known
    if status == 504:
        return ServerTimeoutError(url=url, timeout_s=timeout_s)
    kind = RequestRefusedError if status == 400 else ServerError
    return kind(f"the server answered {status}: {details}", url=url)


def unreachable(details: str, *, url: str) -> ServerUnreachableError:
    """Return the error for a connection that did not come about, or went away.

    Args:
        details: The reason, in the words of whoever noticed.
        url: The server.
    """
    if any(word in details.lower() for word in _OF_TLS):
        return ServerUnreachableError(
            f"no encrypted connection comes about ({details}); a server with a certificate that is "
            "trusted was expected; check the URL, root_certificates and client_certificate",
            url=url,
        )
    return ServerUnreachableError(
        f"no server answers ({details}); a running one was expected; start it: edgeml triton serve",
        url=url,
    )


def strange_answer(error: ValueError, *, url: str) -> ServerError:
    """Return the error for an answer that is not what the contract says."""
    return ServerError(
        f"the server answered with {error}; the outputs of the contract were expected; check its "
        "log and its NumPy, then publish again",
        url=url,
    )


def _known(details: str, *, not_found: bool, url: str, model: str) -> ServerError | None:
    words = details.lower()
    if any(phrase in words for phrase in _OVERLOADED):
        return ServerOverloadedError(
            f"the server has too much to do ({details}); send fewer requests at once, or later",
            url=url,
            reason="waited" if _EXPIRED in words else "queue-full",
        )
    if _FULL in words:  # Triton's own words name the segment, which is nobody's business
        return ServerError(
            "the server's /dev/shm is full and this request does not fit; send a smaller batch, or "
            "free or enlarge it there (docker run --shm-size=1g)",
            url=url,
        )
    if not_found or any(phrase in words for phrase in _NOT_SERVED):
        return ModelNotReadyError(
            f"the server does not serve the model '{model}' ({details}); a loaded one was "
            "expected; see 'edgeml triton status'",
            url=url,
            model=model,
        )
    return None
