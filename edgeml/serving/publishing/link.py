"""The server that a version is loaded into and asked: control over gRPC, golden values.

Control goes over gRPC where it can: Triton 2.51 answers a load over HTTP in a thread that other
connections share, and those wait until the model is loaded (decision record 0067).
"""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from edgeml.core.bundle import Bundle, Check
from edgeml.core.closing import Closing
from edgeml.errors import InputError, ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.faults import translate
from edgeml.serving.client.golden import check_golden
from edgeml.serving.client.grpc_transport import open_channel
from edgeml.serving.client.transport import address_of
from edgeml.serving.server.control import load_model, unload_model
from edgeml.serving.server.http import get_json
from edgeml.serving.server.records import read_record

_LOAD_S = 120.0
_ASK_S = 10.0


class ServerLink(Closing):
    """One running server. Used from one thread; a context manager.

    Args:
        url: ``http://host:port`` or ``grpc://host:port``. For a server of ours on this machine the
            gRPC port that goes with an HTTP port is known.

    Raises:
        InputError: The URL is another one.
        ServerUnreachableError: No server answers there.
        ServerError: It answers with an error, such as a guard that lets nobody control it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        address = address_of(self.url)
        if address.secure:
            raise InputError(
                f"the URL is '{url}'; http:// or grpc:// on a private network was expected: who "
                "may load models may run code, so that port is not for others",
                item="server",
            )
        self._control_url = self.url
        if address.scheme == "http" and address.local:
            record = read_record(address.port)
            if record is not None:
                self._control_url = record.grpc
        control = address_of(self._control_url)
        self._channel = None if control.scheme == "http" else open_channel(control)
        try:
            self.index()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()

    def index(self) -> dict[str, str]:
        """Return every model of the server's repository, with its state; empty: not loaded."""
        if self._channel is None:
            rows = get_json(f"{self._control_url}/v2/repository/index", method="POST")
            return {row["name"]: str(row.get("state", "")) for row in rows or []}
        answer = self._call("RepositoryIndex", service_pb2.RepositoryIndexRequest(), _ASK_S)
        return {row.name: row.state for row in answer.models}

    def load(self, name: str) -> None:
        """Load a model as its folder says now, and the models that it runs.

        Raises:
            ServerError: The server refused, with its reason, and serves what it served.
        """
        if self._channel is None:
            load_model(self._control_url, name, timeout_s=_LOAD_S)
            return
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        self._call("RepositoryModelLoad", request, _LOAD_S, model=name)

    def unload(self, name: str) -> None:
        """Unload a model that may not be loaded."""
        if self._channel is None:
            unload_model(self._control_url, name, timeout_s=_LOAD_S)
            return
        request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
        self._call("RepositoryModelUnload", request, _LOAD_S, model=name)

    def check(self, bundle: Bundle, name: str, *, version: int) -> Check:
        """Ask a model for the golden values of a bundle.

        Args:
            bundle: The bundle, or what a version keeps of it.
            name: The model on the server.
            version: The version that shall answer.
        """
        with contextlib.closing(TritonEngine(self.url, model=name)) as engine:
            if engine.served.version != str(version):
                detail = f"version {engine.served.version} answers; {version} was expected"
                return Check(name=f"golden values of '{name}'", ok=False, detail=detail)
            return check_golden(engine, bundle)

    def _call(self, method: str, request: Any, timeout_s: float, *, model: str = "") -> Any:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        try:
            return getattr(stub, method)(request, timeout=timeout_s)
        except grpc.RpcError as exc:
            if "protocol is restricted" in str(exc).lower():
                raise ServerError(
                    "the server lets nobody load models; one with open control was expected; start "
                    "it with --guard-allow-control, or without --guard",
                    url=self.url,
                ) from exc
            raise translate(exc, url=self.url, model=model, timeout_s=timeout_s) from exc
