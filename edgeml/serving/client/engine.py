"""An engine on the other side of a network: the same protocol, checks and errors as in-process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

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
from edgeml.serving.client.faults import strange_answer
from edgeml.serving.client.opening import open_transport
from edgeml.serving.client.served import Served, served_from, step_behind
from edgeml.serving.client.transport import Address, address_of, checked_timeout
from edgeml.serving.client.wire import joined, split_feed
from edgeml.serving.repository.config import ServedModel, describe
from edgeml.serving.repository.contract import Contract, differences
from edgeml.serving.repository.image_config import ENCODED_INPUT
from edgeml.serving.repository.text_config import TEXT_INPUT


class TritonEngine:
    """Runs tensors on a Triton server. Safe to call from several threads.

    Args:
        url: ``grpc://host:port`` or ``http://host:port``; ``grpcs`` and ``https`` for TLS.
        model: Name of the model on the server.
        timeout_s: Time allowed for each call, this one included; ``edgeml.deadline`` shortens it.
        version: Version to ask for; empty means the one that the server prefers.
        token: Sent with each request as a bearer token.
        root_certificates: PEM file of whoever signed the server's certificate.
        shared_memory: Whether inputs go through this machine's shared memory.
        client_certificate: PEM files of our own certificate and of its key, for mutual TLS.

    Raises:
        InputError: The URL is none of these, the token or the certificates do not go with it, or
            shared memory is asked for with a server that is not on this machine.
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
        shared_memory: bool = False,
        client_certificate: tuple[str | Path, str | Path] | None = None,
    ) -> None:
        self._timeout_s = checked_timeout(timeout_s)
        self._url = url
        self._model = model
        self._asked_version = version
        self._closed = False
        self._stale = False
        self._lock = threading.Lock()
        self._address = address_of(
            url,
            token=token,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
        )
        self._transport = open_transport(self._address, shared_memory=shared_memory)
        try:
            self._served = self._read_served()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._address

    @property
    def served(self) -> Served:
        """What it served when that was last read."""
        return self._served

    @property
    def asked(self) -> tuple[str, str]:
        """The model that is asked for, and the version; empty for the one the server prefers."""
        return self._model, self._asked_version

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
            HostError: Inputs go through shared memory, and it is full.
            ClosedError: This engine was closed.
        """
        if self._closed:
            raise ClosedError
        if self.is_stale():
            self.refresh()
        parts = split_feed(self._served, tensors)
        return joined([self._infer(part) for part in parts])

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
                timeout_s=self.left_s(),
            )
        except ValueError as exc:
            if isinstance(exc, InputError):
                raise
            raise strange_answer(exc, url=self._url) from exc
        except (ServerUnreachableError, ModelNotReadyError):
            self.lose()
            raise
        if self.is_stale() or answer.version != served.version:
            self.refresh(answer.version)
        return dict(answer.outputs)

    def lose(self) -> None:
        """Note that a call found nobody: behind the next connection may be another server."""
        self._stale = True

    def left_s(self) -> float:
        """Return the seconds allowed for a call."""
        left = min(self._timeout_s, remaining_s())
        if left <= 0:
            raise ServerTimeoutError(url=self._url, timeout_s=0.0)
        return left

    def is_stale(self) -> bool:
        """Return whether another server may be there: a connection was lost, or a call failed."""
        if self._transport.take_lost():
            self._stale = True
        return self._stale

    def refresh(self, version: str | None = None) -> None:
        """Read the contract again after the connection was lost or the version changed.

        Args:
            version: The version that has just answered.

        Raises:
            ServerError: As for :meth:`run`.
        """
        if not self._lock.acquire(timeout=self.left_s()):
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
        if not self._transport.is_ready(name, version, self.left_s()):
            raise ModelNotReadyError(
                f"the server does not serve the model '{name}'{_of(version)}; a loaded one was "
                "expected; see 'edgeml triton status' for the reason",
                url=self._url,
                model=name,
            )
        found = self._transport.versions(name, version, self.left_s())
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
        return describe(self._transport.config(name, version, self.left_s()))


def _of(version: str) -> str:
    return f" in version {version}" if version else ""
