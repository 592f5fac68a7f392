"""Whose fault an error is: the server's, or that of whoever asked."""

from __future__ import annotations

from typing import Literal

from edgeml.errors import (
    HostError,
    ModelNotReadyError,
    RequestRefusedError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
)

Fault = Literal["unreachable", "timeout", "not_ready", "overloaded", "host", "error"]
FAULTS: tuple[Fault, ...] = ("unreachable", "timeout", "not_ready", "overloaded", "host", "error")


def fault_of(error: BaseException) -> Fault | None:
    """Return what is wrong with a server, or None where it is not to blame.

    A caller's own input, a closed predictor, a model that answers NaN to this input and whatever
    edgeml does not raise on purpose are none of the server's faults: such an error is handed to the
    caller, is not counted, and is neither retried nor answered by somebody else.

    Args:
        error: What a call to a server raised.

    Returns:
        ``unreachable``: nobody answers, or the connection broke. ``timeout``: no answer in time.
        ``not_ready``: the model is not loaded, or the process that runs it died. ``overloaded``: a
        full or expired queue. ``host``: this machine cannot send, its shared memory is full.
        ``error``: any other answer that is none: an internal error, outputs that are not the
        contract's, another contract than at connection.

    Example:
        >>> fault_of(ServerTimeoutError(url="grpc://host:8001", timeout_s=0.3))
        'timeout'
        >>> fault_of(ValueError("a picture that is none"))
    """
    if isinstance(error, RequestRefusedError):
        return None
    kinds: tuple[tuple[type[BaseException], Fault], ...] = (
        (ServerUnreachableError, "unreachable"),
        (ServerTimeoutError, "timeout"),
        (ModelNotReadyError, "not_ready"),
        (ServerOverloadedError, "overloaded"),
        (ServerError, "error"),
        (HostError, "host"),
    )
    return next((fault for kind, fault in kinds if isinstance(error, kind)), None)
