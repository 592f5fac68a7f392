"""An engine on the other side of a network: the same protocol, checks and errors as in-process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.deadline import remaining_s
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.config import ServedModel, describe
from edgeml.serving.contract import Contract, differences
from edgeml.serving.grpc_transport import GrpcTransport
from edgeml.serving.http_transport import HttpTransport
from edgeml.serving.image_config import ENCODED_INPUT
from edgeml.serving.served import Served, served_from, step_behind
from edgeml.serving.text_config import TEXT_INPUT
from edgeml.serving.transport import Address, Transport, address_of, checked_timeout
from edgeml.serving.wire import check_feed


class TritonEngine:
    """Runs tensors on a Triton server. Safe to call from several threads.

    Args:
        url: ``grpc://host:port`` or ``http://host:port``; ``grpcs`` and ``https`` for TLS.
        model: Name of the model on the server.
        timeout_s: Time allowed for each call, this one included; ``edgeml.deadline`` shortens it.
        version: Version to ask for; empty means the one that the server prefers.
        token: Sent with each request as a bearer token.
        root_certificates: PEM file of whoever signed the server's certificate.

    Raises:
        InputError: The URL is none of these, or the token or the certificates do not go with it.
        ServerUnreachableError: No server answers there.
        ServerTimeoutError: It did not answer in time.
        ModelNotReadyError: The server does not serve this model.
        ServerError: The server's model was not published by edgeml, or contradicts its contract.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        timeout_s: float = 10.0,
        version: str = "",
        token: str | None = None,
        root_certificates: str | Path | None = None,
    ) -> None:
        self._timeout_s = checked_timeout(timeout_s)
        self._url = url
        self._model = model
        self._asked_version = version
        self._closed = False
        self._stale = False
        self._lock = threading.Lock()
        address = address_of(url, token=token, root_certificates=root_certificates)
        self._transport = _open(address)
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
        return self._served.object_input == TEXT_INPUT

    @property
    def takes_files(self) -> bool:
        """Whether the model takes picture files, as the input ``encoded``, instead of tensors."""
        return self._served.object_input == ENCODED_INPUT

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return every output for a feed, batch first.

        A batch above the server's limit goes in several requests.

        Args:
            tensors: Input name to array, as the signature says; ``text``, an object array of str,
                for a string-in model, which answers with ``truncated`` besides; ``encoded``, one of
                bytes, for a model that takes picture files.

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
        if self._is_stale():
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
        self._closed = True
        self._transport.close()

    def _infer(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        served = self._served
        try:
            answer = self._transport.infer(
                served,
                tensors,
                model=self._model,
                version=self._asked_version,
                timeout_s=self._left(),
            )
        except ValueError as exc:
            if isinstance(exc, InputError):
                raise
            raise ServerError(
                f"the server answered with {exc}; the outputs of the contract were expected; check "
                "its log and its NumPy, then publish again",
                url=self._url,
            ) from exc
        except (ServerUnreachableError, ModelNotReadyError):
            self._stale = True
            raise
        if self._is_stale() or answer.version != served.version:
            self._refresh(answer.version)
        return dict(answer.outputs)

    def _left(self) -> float:
        """Return the seconds allowed for a call."""
        left = min(self._timeout_s, remaining_s())
        if left <= 0:
            raise ServerTimeoutError(url=self._url, timeout_s=0.0)
        return left

    def _is_stale(self) -> bool:
        """Return whether another server may be there: a connection was lost, or a call failed."""
        if self._transport.take_lost():
            self._stale = True
        return self._stale

    def _refresh(self, version: str | None = None) -> None:
        """Read the contract again after the connection was lost or the version changed."""
        if not self._lock.acquire(timeout=self._left()):
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
        if not self._transport.is_ready(name, version, self._left()):
            raise ModelNotReadyError(
                f"the server does not serve the model '{name}'{_of(version)}; a loaded one was "
                "expected; see 'edgeml triton status' for the reason",
                url=self._url,
                model=name,
            )
        found = self._transport.versions(name, version, self._left())
        latest = version or max(found, key=int, default="")
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
        return describe(self._transport.config(name, version, self._left()))


def _open(address: Address) -> Transport:
    return (GrpcTransport if address.scheme.startswith("grpc") else HttpTransport)(address)


def _of(version: str) -> str:
    return f" in version {version}" if version else ""
