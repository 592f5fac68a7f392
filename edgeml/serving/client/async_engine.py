"""The engine for an event loop: many calls under way in one thread.

What a call needs of the server's contract is read, and read again after a loss, by an ordinary
engine in a thread. Only the answers themselves are awaited.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
import numpy.typing as npt
from tritonclient.grpc import service_pb2_grpc

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    ServerUnreachableError,
)
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.faults import strange_answer, translate
from edgeml.serving.client.grpc_transport import (
    CHANNEL_OPTIONS,
    credentials_of,
    make_request,
    metadata_of,
    read_answer,
)
from edgeml.serving.client.transport import Answer
from edgeml.serving.client.wire import joined, split_feed


class AsyncTritonEngine:
    """Runs tensors on a Triton server without holding the event loop that it was made in.

    Args:
        engine: An open engine over gRPC; closing this one closes it too.

    Raises:
        InputError: The engine speaks another protocol, or the certificates cannot be read.
    """

    def __init__(self, engine: TritonEngine) -> None:
        address = engine.address
        check_async_scheme(address.url)
        self._engine = engine
        self._closed = False
        self._metadata = metadata_of(address)
        if address.secure:
            self._channel = grpc.aio.secure_channel(
                address.target, credentials_of(address), options=CHANNEL_OPTIONS
            )
        else:
            self._channel = grpc.aio.insecure_channel(address.target, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs, as the contract says."""
        return self._engine.signature

    @property
    def served_by(self) -> str:
        """``triton``, device, variant and the repository's version: ``triton/cpu/int8/3``."""
        return self._engine.served_by

    async def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return every output for a feed, batch first; see ``TritonEngine.run``.

        Args:
            tensors: Input name to array, as the signature says.

        Raises:
            SignatureError: The feed does not fit the signature; nothing was sent.
            ServerUnreachableError: The server is gone.
            ServerTimeoutError: It did not answer in time.
            ModelNotReadyError: It no longer serves the model.
            ServerError: It answered with an error, or is now another server or version with another
                contract.
            ClosedError: This engine was closed.
        """
        if self._closed:
            raise ClosedError
        if self._engine.is_stale():
            await asyncio.to_thread(self._engine.refresh)
        parts = split_feed(self._engine.served, tensors)
        return joined([await self._infer(part) for part in parts])

    async def close(self) -> None:
        """Close the connection; calls under way fail, later ones raise ClosedError."""
        self._closed = True
        await self._channel.close()
        await asyncio.to_thread(self._engine.close)

    async def _infer(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        served = self._engine.served
        answer = await self._answer(tensors)
        if self._engine.is_stale() or answer.version != served.version:
            await asyncio.to_thread(self._engine.refresh, answer.version)
        return dict(answer.outputs)

    async def _answer(self, tensors: Tensors) -> Answer:
        engine, url = self._engine, self._engine.address.url
        served, (model, version), timeout_s = engine.served, engine.asked, engine.left_s()
        request = make_request(served, tensors, model=model, version=version, timeout_s=timeout_s)
        started = time.monotonic()
        try:
            response = await self._stub.ModelInfer(
                request, timeout=timeout_s, metadata=self._metadata
            )
            return read_answer(served, response)
        except grpc.aio.AioRpcError as exc:
            if self._closed:
                raise ClosedError from exc
            late = time.monotonic() - started >= timeout_s
            error = translate(exc, url=url, model=model, timeout_s=timeout_s, late=late)
            if isinstance(error, (ServerUnreachableError, ModelNotReadyError)):
                engine.lose()
            raise error from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise ClosedError from exc  # what a channel does to its calls when it is closed
            raise
        except grpc.aio.UsageError as exc:
            raise ClosedError from exc
        except ValueError as exc:
            raise strange_answer(exc, url=url) from exc


def check_async_scheme(url: str) -> None:
    """Refuse a URL that this client does not speak.

    Raises:
        InputError: It is one of HTTP.
    """
    if url.startswith(("http:", "https:")):
        raise InputError(
            f"the URL is '{url}'; the async client speaks gRPC; use grpc://host:port or "
            "grpcs://host:port (Triton's default port is 8001)"
        )
