"""A server that was away when its client started: connected to as soon as it is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.identity import ModelIdentity, identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, ServerError, ServerUnreachableError
from edgeml.serving.routing.faults import fault_of
from edgeml.serving.routing.routed import check_same_model

_LOG = logging.getLogger(__name__)
_NAME = "a server that is not connected yet"


class LateServer(Closing):
    """A :class:`~edgeml.core.predictor.Predictor` that may not be there yet.

    Calls fail until :meth:`open` has connected; it is called in the background.

    Args:
        connect: Returns the server's predictor, or raises.
        edge: A predictor of the same model.
        accept: Raises where what was connected to shall not be used.
    """

    def __init__(
        self,
        connect: Callable[[], Predictor],
        edge: Predictor,
        *,
        accept: Callable[[Predictor], None] = lambda found: None,
    ) -> None:
        self._connect = connect
        self._accept = accept
        self._edge = edge
        self._found: Predictor | None = None
        self._closed = False
        self._told = ""
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Connect, unless that was done.

        Raises:
            EdgemlError: What connecting raised, or there is another model than was expected.
        """
        with self._lock:
            if self._closed:
                raise ClosedError
            if self._found is not None:
                return
            found = self._connect()
            try:
                check_same_model({"server": found, "edge": self._edge})
                self._accept(found)
            except EdgemlError:
                found.close()
                raise
            self._found = found

    def open(self) -> None:
        """Connect in the background, where nobody can mend what was given wrongly.

        Raises:
            ServerError: There is no server, or it is not what was expected; the log says so once.
            ClosedError: It was closed.
        """
        try:
            self.connect()
        except EdgemlError as exc:
            if fault_of(exc) is not None or isinstance(exc, ClosedError):
                raise
            if str(exc) != self._told:
                self._told = str(exc)
                _LOG.error("the server that came up is not used: %s", exc)
            raise ServerError(str(exc), url=_NAME) from exc

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model."""
        return (self._found or self._edge).signature

    @property
    def served_by(self) -> str:
        """Who answers, once it is known."""
        return _NAME if self._found is None else self._found.served_by

    @property
    def identity(self) -> ModelIdentity | None:
        """Which model this is."""
        return identity_of(self._found or self._edge)

    def predict(self, item: Any) -> Prediction:
        """Answer one item."""
        return self._server().predict(item)

    def predict_batch(self, items: Iterable[Any], *, on_error: Any = "raise") -> Any:
        """Answer several items, in their order."""
        return self._server().predict_batch(items, on_error=on_error)

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors, batch first."""
        return self._server().predict_tensors(tensors)

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors, batch first."""
        return self._server().run(tensors)

    def close(self) -> None:
        """Close the connection, if there is one; none is made any more."""
        with self._lock:
            self._closed = True
        if self._found is not None:
            self._found.close()

    def _server(self) -> Predictor:
        if self._found is None:
            raise ServerUnreachableError("it was not there when this client started", url=_NAME)
        return self._found
