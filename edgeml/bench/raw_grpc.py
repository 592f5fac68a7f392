"""The cheapest honest gRPC client: one channel, prepared bytes, no message classes.

The extra ``[triton]`` brings grpc. Against a real Triton its ``ServerLive`` is the query that
does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeml._optional import require
from edgeml.bench.targets import Call, CallTarget
from edgeml.errors import (
    RequestRefusedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)

SERVER_LIVE = "/inference.GRPCInferenceService/ServerLive"


class GrpcTarget(CallTarget):
    """A method that answers prepared messages; all callers share one channel, as gRPC is meant.

    Args:
        address: ``host:port``.
        method: ``/package.Service/Method``.
        messages: Serialised messages, one a sample.
        timeout_s: Longest wait for an answer.
        expected: The right answers by sample, serialised.

    Raises:
        MissingExtraError: There is no grpc.
    """

    def __init__(
        self,
        address: str,
        method: str,
        messages: Sequence[bytes],
        *,
        timeout_s: float = 10.0,
        expected: Sequence[bytes] | None = None,
    ) -> None:
        require("grpc", extra="triton")  # only this client needs it
        import grpc

        self._grpc = grpc
        self._address = address
        self._timeout_s = timeout_s
        self._messages = list(messages)
        self._channel = grpc.insecure_channel(address)
        self._method = self._channel.unary_unary(method)  # bytes in, bytes out
        super().__init__(
            self._ask,
            num_samples=len(self._messages),
            client="raw-grpc",
            expected=expected,
            close=self._channel.close,
        )

    def connect(self) -> Call:
        """Return the call over the shared channel."""
        return self._ask

    def _ask(self, sample: int) -> Any:
        try:
            return self._method(self._messages[sample], timeout=self._timeout_s)
        except self._grpc.RpcError as exc:
            raise self._error(exc.code(), exc.details() or "") from exc

    def _error(self, code: Any, details: str) -> ServerError:
        """Translate a status; a server that is gone and one that is full both say UNAVAILABLE."""
        codes, said = self._grpc.StatusCode, f"{code.name}: {details}; an answer was expected"
        if code == codes.DEADLINE_EXCEEDED:
            return ServerTimeoutError(url=self._address, timeout_s=self._timeout_s)
        if code == codes.UNAVAILABLE and "connect" in details.lower():
            return ServerUnreachableError(said, url=self._address)
        if code in (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED):
            return RequestRefusedError(said, url=self._address)
        return ServerError(said, url=self._address)


def grpc_target(
    *, address: str, method: str = SERVER_LIVE, messages_hex: Sequence[str] = ("",)
) -> GrpcTarget:
    """Return a target that sends prepared messages; the factory for specs.

    Args:
        address: ``host:port``.
        method: ``/package.Service/Method``.
        messages_hex: Serialised messages in hexadecimal, one a sample.
    """
    return GrpcTarget(address, method, [bytes.fromhex(text) for text in messages_hex])
