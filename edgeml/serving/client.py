"""An engine on the other side of gRPC: the same protocol, checks and errors as in-process.

Requests are built from the protocol's messages directly, raw bytes and nothing else, because a
small image costs less to answer than the usual client costs to describe it.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.config import ServedModel, describe, json_of
from edgeml.serving.contract import Contract, differences
from edgeml.serving.faults import translate
from edgeml.serving.served import Served, address_of, served_from, step_behind
from edgeml.serving.wire import check_feed, make_request, read_response

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found within a second, not after the two minutes of the default.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two engines for one address do not share a connection, nor its failures.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_WATCHER_S = 0.02


class TritonEngine:
    """Runs tensors on a Triton server. Safe to call from several threads.

    Args:
        url: ``grpc://host:port``.
        model: Name of the model on the server.
        timeout_s: Time allowed for each call, this one included.
        version: Version to ask for; empty means the one that the server prefers.

    Raises:
        InputError: The URL is not one of gRPC.
        ServerUnreachableError: No server answers there.
        ServerTimeoutError: It did not answer in time.
        ModelNotReadyError: The server does not serve this model.
        ServerError: The server's model was not published by edgeml, or contradicts its contract.
    """

    def __init__(self, url: str, *, model: str, timeout_s: float = 10.0, version: str = "") -> None:
        if not 0 < timeout_s < math.inf:
            raise InputError(f"timeout_s is {timeout_s:g}; a positive, finite time was expected")
        self._url = url
        self._model = model
        self._timeout_s = timeout_s
        self._asked_version = version
        self._closed = False
        self._stale = False
        self._connected = False
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(address_of(url), options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._channel.subscribe(self._on_connectivity)
        try:
            self._served = self._read_served()
        except BaseException:
            self.close()
            raise

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs, as the contract says.

        Of a string-in model, those of the model that it runs.
        """
        return self._served.signature

    @property
    def served_by(self) -> str:
        """``triton``, device, variant and the repository's version: ``triton/cpu/int8/3``."""
        return self._served.served_by

    @property
    def contract(self) -> Contract:
        """The contract that the server carries: labels, preprocessing, hashes."""
        return self._served.contract

    @property
    def variant(self) -> str:
        """Name of the variant that answers."""
        return self._served.variant

    @property
    def takes_text(self) -> bool:
        """Whether the model takes strings, as the input ``text``, instead of tensors."""
        return self._served.takes_text

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return every output for a feed, batch first.

        A batch above the server's limit goes in several requests.

        Args:
            tensors: Input name to array, as the signature says; ``text``, an object array of str,
                for a string-in model, which answers with ``truncated`` besides.

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
        if self._stale:
            self._refresh()
        batch = check_feed(self._served, tensors)
        limit = self._served.model.max_batch_size
        if batch <= limit:
            return self._infer(tensors)
        parts = [
            self._infer({name: array[start : start + limit] for name, array in tensors.items()})
            for start in range(0, batch, limit)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Close the connection; calls under way fail, later ones raise ClosedError."""
        if not self._closed:
            self._closed = True
            self._channel.unsubscribe(self._on_connectivity)
            # The channel's watcher must have come back to its wait, or its thread dies noisily.
            time.sleep(_WATCHER_S)
        self._channel.close()

    def _infer(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        served = self._served
        request = make_request(served, tensors, model=self._model, version=self._asked_version)
        response = self._call(self._stub.ModelInfer, request)
        if self._stale or response.model_version != served.version:
            self._refresh(response.model_version)
        try:
            return read_response(served, response)
        except ValueError as exc:
            raise ServerError(
                f"the server answered with {exc}; the outputs of the contract were expected; check "
                "its log and its NumPy, then publish again",
                url=self._url,
            ) from exc

    def _on_connectivity(self, state: grpc.ChannelConnectivity) -> None:
        """Note every loss of the connection: behind the next one may be another server."""
        ready = state is grpc.ChannelConnectivity.READY
        if self._connected and not ready:
            self._stale = True
        self._connected = ready

    def _refresh(self, version: str | None = None) -> None:
        """Read the contract again after the connection was lost or the version changed."""
        if not self._lock.acquire(timeout=self._timeout_s):
            raise ServerTimeoutError(url=self._url, timeout_s=self._timeout_s)
        try:
            if not self._stale and version in (None, self._served.version):
                return
            # Before the reading: what is lost meanwhile makes it stale once more.
            self._stale = False
            try:
                after = self._read_served()
                self._check_follows(after)
            except BaseException:
                self._stale = True
                raise
            self._served = after
        finally:
            self._lock.release()

    def _check_follows(self, after: Served) -> None:
        changed = differences(self._served.contract, after.contract)
        if changed:
            raise ServerError(
                f"the model '{self._model}' is now version {after.version}, with another contract "
                f"({', '.join(changed)}); the one at connection was expected; connect again",
                url=self._url,
            )

    def _read_served(self) -> Served:
        name, version = self._model, self._asked_version
        ready = self._call(
            self._stub.ModelReady, service_pb2.ModelReadyRequest(name=name, version=version)
        )
        if not ready.ready:
            raise ModelNotReadyError(
                f"the server does not serve the model '{name}'{_of(version)}; a loaded one was "
                "expected; see 'edgeml triton status' for the reason",
                url=self._url,
                model=name,
            )
        request = service_pb2.ModelMetadataRequest(name=name, version=version)
        metadata = self._call(self._stub.ModelMetadata, request)
        latest = version or max(metadata.versions, key=int, default="")
        try:
            model = self._read_config(name, version)
            step = step_behind(model)
            behind = self._read_config(step[0], str(max(step[1], 0) or "")) if step else None
            return served_from(model, version=latest, behind=behind)
        except InputError as exc:
            raise ServerError(
                f"the model '{name}' cannot be used: {exc}; one that 'edgeml publish' wrote was "
                "expected",
                url=self._url,
            ) from exc

    def _read_config(self, name: str, version: str) -> ServedModel:
        request = service_pb2.ModelConfigRequest(name=name, version=version)
        return describe(json_of(self._call(self._stub.ModelConfig, request).config))

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as exc:
            if self._closed:
                raise ClosedError from exc
            error = translate(exc, url=self._url, model=self._model, timeout_s=self._timeout_s)
            if isinstance(error, (ServerUnreachableError, ModelNotReadyError)):
                self._stale = True
            raise error from exc
        except ValueError as exc:  # what grpc raises when the channel was closed before the call
            if self._closed:
                raise ClosedError from exc
            raise


def _of(version: str) -> str:
    return f" in version {version}" if version else ""
