"""The inference protocol over gRPC.

Requests are built from the protocol's messages directly, raw bytes and nothing else, because a
small image costs less to answer than the usual client costs to describe it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from edgeml.core.priority import current_priority, level_of
from edgeml.core.signature import Tensors
from edgeml.errors import ClosedError
from edgeml.serving.client.faults import translate
from edgeml.serving.client.served import Served
from edgeml.serving.client.tls import context_of
from edgeml.serving.client.transport import Address, Answer
from edgeml.serving.client.wire import InRegion, Raw, raw_inputs, read_outputs
from edgeml.serving.repository.config import json_of

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found within a second, not after the two minutes of the default.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection that a firewall forgot is noticed while a call waits on it. Servers end those
    # that ask oftener than every five minutes without a call.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Two engines for one address do not share a connection, nor its failures.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_WATCHER_S = 0.02


class GrpcTransport:
    """A channel to one server; see ``Transport``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._connected = False
        self._lost = False
        self._lock = threading.Lock()
        self._metadata = metadata_of(address)
        self._channel = open_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._channel.subscribe(self._on_connectivity)

    def is_ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Return whether the server says that it serves a model."""
        request = service_pb2.ModelReadyRequest(name=model, version=version)
        return bool(self._call(self._stub.ModelReady, request, model, timeout_s).ready)

    def versions(self, model: str, version: str, timeout_s: float) -> list[str]:
        """Return the versions that it serves."""
        request = service_pb2.ModelMetadataRequest(name=model, version=version)
        return list(self._call(self._stub.ModelMetadata, request, model, timeout_s).versions)

    def config(self, model: str, version: str, timeout_s: float) -> Mapping[str, Any]:
        """Return a model's configuration, as values."""
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        return json_of(self._call(self._stub.ModelConfig, request, model, timeout_s).config)

    def infer(
        self, served: Served, tensors: Tensors, *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send a checked feed."""
        rows = raw_inputs(served, tensors)
        return self.send(served, rows, model=model, version=version, timeout_s=timeout_s)

    def send(
        self, served: Served, rows: Sequence[Raw], *, model: str, version: str, timeout_s: float
    ) -> Answer:
        """Send inputs that are raw bytes, or places in shared memory, already."""
        request = request_of(served, rows, model=model, version=version, timeout_s=timeout_s)
        return read_answer(served, self._call(self._stub.ModelInfer, request, model, timeout_s))

    def register(self, name: str, *, key: str, size_bytes: int, timeout_s: float) -> None:
        """Make a segment of this machine's shared memory known to the server."""
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=name, key=key, byte_size=size_bytes
        )
        self._call(self._stub.SystemSharedMemoryRegister, request, "", timeout_s)

    def unregister(self, name: str, *, timeout_s: float) -> None:
        """Let the server forget a segment, or one that it never knew."""
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        self._call(self._stub.SystemSharedMemoryUnregister, request, "", timeout_s)

    def take_lost(self) -> bool:
        """Return whether a connection was lost since the last time this was asked."""
        with self._lock:
            lost, self._lost = self._lost, False
            return lost

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        if not self._closed:
            self._closed = True
            self._channel.unsubscribe(self._on_connectivity)
            # The channel's watcher must have come back to its wait, or its thread dies noisily.
            time.sleep(_WATCHER_S)
        self._channel.close()

    def _on_connectivity(self, state: grpc.ChannelConnectivity) -> None:
        """Note every loss of the connection: behind the next one may be another server."""
        ready = state is grpc.ChannelConnectivity.READY
        if self._connected and not ready:
            self._lost = True
        self._connected = ready

    def _call(self, method: Any, request: Any, model: str, timeout_s: float) -> Any:
        started = time.monotonic()
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as exc:
            if self._closed:
                raise ClosedError from exc
            url, late = self._address.url, time.monotonic() - started >= timeout_s
            raise translate(exc, url=url, model=model, timeout_s=timeout_s, late=late) from exc
        except ValueError as exc:  # what grpc raises when the channel was closed before the call
            if self._closed:
                raise ClosedError from exc
            raise


def open_channel(address: Address) -> grpc.Channel:
    """Open a channel; nothing is sent yet.

    Raises:
        InputError: The certificates cannot be read.
    """
    if not address.secure:
        return grpc.insecure_channel(address.target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(address.target, credentials_of(address), options=CHANNEL_OPTIONS)


def credentials_of(address: Address) -> Any:
    """Return the credentials of a TLS channel.

    Raises:
        InputError: The certificates cannot be read.
    """
    context_of(address)  # gRPC only logs what is wrong with a file
    roots = address.root_certificates
    certificate, key = address.client_certificate or (None, None)
    return grpc.ssl_channel_credentials(
        *(None if file is None else file.read_bytes() for file in (roots, key, certificate))
    )


def metadata_of(address: Address) -> tuple[tuple[str, str], ...]:
    """Return what goes with each call."""
    return () if address.token is None else (("authorization", f"Bearer {address.token}"),)


def make_request(
    served: Served, tensors: Tensors, *, model: str, version: str, timeout_s: float
) -> Any:
    """Return the message that asks for a checked feed.

    Args:
        served: The model that it is for.
        tensors: The feed.
        model: The model's name.
        version: The version to ask for; empty for the one that the server prefers.
        timeout_s: Told to the server's queue where that listens.
    """
    rows = raw_inputs(served, tensors)
    return request_of(served, rows, model=model, version=version, timeout_s=timeout_s)


def request_of(
    served: Served, rows: Sequence[Raw], *, model: str, version: str, timeout_s: float
) -> Any:
    """Return the message that asks for inputs that are raw bytes, or in shared memory, already."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape, content in rows:
        row = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if isinstance(content, InRegion):
            row.parameters["shared_memory_region"].string_param = content.region
            row.parameters["shared_memory_byte_size"].int64_param = content.size_bytes
            row.parameters["shared_memory_offset"].int64_param = content.offset
        else:
            request.raw_input_contents.append(content)
    if served.model.takes_timeout:
        request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
    if served.model.takes_priority:
        request.parameters["priority"].uint64_param = level_of(current_priority())
    return request


def read_answer(served: Served, response: Any) -> Answer:
    """Return what a message answers.

    Raises:
        ValueError: An output is missing or not what the contract says.
    """
    rows = zip(response.outputs, response.raw_output_contents, strict=False)
    found = {row.name: (row.datatype, row.shape, content) for row, content in rows}
    return Answer(version=response.model_version, outputs=read_outputs(served, found))
