"""A predictor that hands each call to one of several others, as a route decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.identity import ModelIdentity, identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, InputError
from edgeml.serving.routing.metrics import Metrics

Answer = TypeVar("Answer")
Method = Literal["predict", "predict_batch", "predict_tensors", "run"]


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Answer]):
    """One call of a user, which any member can answer; it may be made several times.

    Attributes:
        method: What was called.
        argument: Its argument: an item, a list of items, or tensors.
        num_samples: Items or rows in it.
        ask: Puts the question to a member.
    """

    method: Method
    argument: Any
    num_samples: int
    ask: Callable[[Predictor], Answer]

    def __call__(self, predictor: Predictor) -> Answer:
        """Put the question to a member."""
        return self.ask(predictor)


class Route(Protocol):
    """Decides who answers a call. Safe to call from several threads."""

    def __call__(self, call: Call[Answer]) -> Answer:
        """Answer a call through one member or several, or raise what its caller shall see."""
        ...

    def close(self) -> None:
        """End whatever runs in the background; a second call does nothing."""
        ...


class RoutedPredictor(Closing):
    """A :class:`~edgeml.core.predictor.Predictor` over others that answer the same question.

    Args:
        members: By the name under which metrics and messages speak of them; the first one says
            what the model is.
        route: Knows the members and decides.
        metrics: What the route counts.
        close_members: Whether the members are closed with it.

    Raises:
        InputError: There is no member, or two do not answer the same question.
    """

    def __init__(
        self,
        members: Mapping[str, Predictor],
        *,
        route: Route,
        metrics: Metrics,
        close_members: bool = True,
    ) -> None:
        check_same_model(members)
        self._members = dict(members)
        self._first = next(iter(self._members.values()))
        self._route = route
        self._close_members = close_members
        self._closed = False
        self.metrics = metrics

    @property
    def members(self) -> Mapping[str, Predictor]:
        """The predictors behind it, by name."""
        return self._members

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model."""
        return self._first.signature

    @property
    def served_by(self) -> str:
        """All who may answer; the answer itself says who did: ``Prediction.served_by``."""
        return "|".join(member.served_by for member in self._members.values())

    @property
    def identity(self) -> ModelIdentity | None:
        """Which model it answers for; None where no member knows."""
        return identity_among(self._members)

    def metrics_text(self) -> str:
        """Return what happened so far, as OpenMetrics text."""
        return self.metrics.text()

    def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What the members accept.

        Raises:
            InputError: The item is unusable.
            ServerError: Nobody who may answer could.
            ClosedError: The predictor was closed.
        """
        return self._answer(
            Call(
                method="predict",
                argument=item,
                num_samples=1,
                ask=lambda member: member.predict(item),
            )
        )

    @overload
    def predict_batch(self, items: Iterable[Any]) -> list[Prediction]: ...

    @overload
    def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["return"]
    ) -> list[Prediction | EdgemlError]: ...

    @overload
    def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["raise"]
    ) -> list[Prediction]: ...

    def predict_batch(self, items: Iterable[Any], *, on_error: Any = "raise") -> Any:
        """Answer several items, in their order; one member answers them all.

        Args:
            items: What the members accept; read to its end first, as they may be asked twice.
            on_error: As for the members.

        Raises:
            InputError: An item is unusable, or ``on_error`` is no word that they know.
            ServerError: Nobody who may answer could.
            ClosedError: The predictor was closed.
        """
        rows = _listed(items)
        return self._answer(
            Call(
                method="predict_batch",
                argument=rows,
                num_samples=len(rows) if isinstance(rows, list) else 1,
                ask=lambda member: member.predict_batch(rows, on_error=on_error),
            )
        )

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors, batch first.

        Raises:
            SignatureError: The feed does not fit the signature.
            ServerError: Nobody who may answer could.
            ClosedError: The predictor was closed.
        """
        return self._answer(
            Call(
                method="predict_tensors",
                argument=tensors,
                num_samples=_rows_of(tensors),
                ask=lambda member: member.predict_tensors(tensors),
            )
        )

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors, batch first.

        Raises:
            SignatureError: The feed does not fit the signature.
            ServerError: Nobody who may answer could.
            ClosedError: The predictor was closed.
        """
        return self._answer(
            Call(
                method="run",
                argument=tensors,
                num_samples=_rows_of(tensors),
                ask=lambda member: member.run(tensors),
            )
        )

    def close(self) -> None:
        """End the route's work and close the members, where they are ours to close."""
        self._closed = True
        self._route.close()
        if self._close_members:
            for member in self._members.values():
                member.close()

    def _answer(self, call: Call[Answer]) -> Answer:
        if self._closed:
            raise ClosedError
        return self._route(call)


def check_same_model(members: Mapping[str, Predictor]) -> None:
    """Check that predictors answer the same question, whatever artefact each of them runs.

    Args:
        members: By name.

    Raises:
        InputError: There is none, or signature, task, labels or preprocessing of two differ.
    """
    if not members:
        raise InputError("there is no predictor to route to; at least one was expected")
    (first, one), *others = members.items()
    for name, other in others:
        changed = [] if one.signature == other.signature else ["signature"]
        mine, theirs = identity_of(one), identity_of(other)
        if mine is not None and theirs is not None:
            changed += mine.differences(theirs)
        if changed:
            raise InputError(
                f"'{first}' ({one.served_by}) and '{name}' ({other.served_by}) differ in "
                f"{', '.join(changed)}; predictors of the same model were expected; load and "
                "publish the same bundle"
            )


def identity_among(members: Mapping[str, Predictor]) -> ModelIdentity | None:
    """Return which model several predictors of the same answer for; None where none knows."""
    found = (identity_of(member) for member in members.values())
    return next((identity for identity in found if identity is not None), None)


def metrics_around(members: Mapping[str, Predictor]) -> Metrics:
    """Return metrics named after the members' model, with those of members that have their own."""
    identity = identity_among(members)
    metrics = Metrics(model=identity.name if identity else "")
    for name, member in members.items():
        if isinstance(member, RoutedPredictor):
            metrics.join(member.metrics, part=name)
    return metrics


def _listed(items: Any) -> Any:
    """Return items that can be read twice; what holds none is the members' to refuse."""
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        return items
    try:
        rows = iter(items)
    except TypeError:
        return items
    return list(rows)


def _rows_of(tensors: Any) -> int:
    """Return the batch of a feed; 1 of one that the members will refuse."""
    if not isinstance(tensors, Mapping):
        return 1
    sizes = [len(row) for row in tensors.values() if isinstance(row, np.ndarray) and row.ndim]
    return max(sizes, default=1)
