"""The raw gRPC client against a server of its own: answers, refusals, timeouts, errors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from edgeml.bench.raw_grpc import GrpcTarget, grpc_target
from edgeml.errors import (
    RequestRefusedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)


@contextlib.contextmanager
def _server(answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


def test_messages_are_sent_as_they_are_and_answers_checked() -> None:
    with _server(lambda request, _context: request[::-1]) as address:
        target = GrpcTarget(address, "/a.B/C", [b"ab", b"cd"], expected=[b"ba", b"xx"])
        call = target.connect()
        assert [target.check(sample, call(sample)) for sample in (0, 1)] == [
            None,
            "sample 1: b'dc' where b'xx' is right",
        ]
        target.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RequestRefusedError),
        (grpc.StatusCode.UNAVAILABLE, RequestRefusedError),
        (grpc.StatusCode.INTERNAL, ServerError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_refusals_are_told_from_errors(code: grpc.StatusCode, kind: type[Exception]) -> None:
    with _server(lambda _request, context: context.abort(code, "no room")) as address:
        target = grpc_target(address=address, method="/a.B/C", messages_hex=["00"])
        with pytest.raises(ServerError, match="no room") as caught:
            target.connect()(0)
        assert type(caught.value) is kind
        target.close()


def test_a_server_that_hangs_is_a_timeout() -> None:
    def slow(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        time.sleep(0.5)
        return b""

    with _server(slow) as address:
        target = GrpcTarget(address, "/a.B/C", [b""], timeout_s=0.05)
        with pytest.raises(ServerTimeoutError):
            target.connect()(0)
        target.close()


def test_a_server_that_is_gone_has_not_refused() -> None:
    with _server(lambda request, _context: request) as address:
        pass
    target = GrpcTarget(address, "/a.B/C", [b""], timeout_s=20.0)
    with pytest.raises(ServerUnreachableError):
        target.connect()(0)
    target.close()
