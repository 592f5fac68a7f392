"""The cheapest honest gRPC client: one channel, prepared bytes, no message classes.

The extra ``[triton]`` brings grpc. Against a real Triton its ``ServerLive`` is the query that
does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeml.bench.targets import Call, CallTarget
from edgeml.errors import RequestRefusedError, ServerError, ServerTimeoutError

SERVER_LIVE = "/inference.GRPCInferenceService/ServerLive"


class GrpcTarget(CallTarget):
    """A method that answers prepared messages; all callers share one channel, as gRPC is meant.

    Args:
        address: ``host:port``.
        method: ``/package.Service/Method``.
        messages: Serialised messages, one a sample.
        timeout_s: Longest wait for an answer.
        expected: The right answers by sample, serialised.
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
        import grpc  # only here: the other clients do without

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
            code, said = exc.code(), f"{exc.code().name}: {exc.details()}"
            if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerTimeoutError(url=self._address, timeout_s=self._timeout_s) from exc
            refused = code in (
                self._grpc.StatusCode.RESOURCE_EXHAUSTED,
                self._grpc.StatusCode.UNAVAILABLE,
            )
            raise (RequestRefusedError if refused else ServerError)(
                f"{said}; an answer was expected", url=self._address
            ) from exc


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
