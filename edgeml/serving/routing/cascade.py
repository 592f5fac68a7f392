"""A cascade: one model answers everything, another answers again what the first is unsure of.

It looks at answers item by item, so it is a predictor of its own and no route of a
:class:`~edgeml.serving.routing.routed.RoutedPredictor`, which looks at calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.identity import ModelIdentity, identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, InputError
from edgeml.serving.routing.faults import fault_of
from edgeml.serving.routing.metrics import Metrics
from edgeml.serving.routing.pairing import (
    at_position,
    check_pair,
    check_same_inputs,
    confidence_of,
    join_metrics,
    listed,
)

OnFailure = Literal["raise", "other"]
FIRST, SECOND = "first", "second"


class CascadeMetrics:
    """What a cascade counts.

    Args:
        metrics: Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.answers = metrics.counter(
            "cascade_answers", "Answers, by the model that gave it.", "by"
        )
        self.failures = metrics.counter(
            "cascade_failures", "Items that a model could not answer, by fault.", "of", "fault"
        )
        self.threshold = metrics.gauge(
            "cascade_threshold", "Confidence below which the second model is asked."
        )


class CascadePredictor(Closing):
    """A :class:`~edgeml.core.predictor.Predictor` that asks a second one where the first is unsure.

    Args:
        first: Answers every item.
        second: Answers again the items whose confidence lies below the threshold.
        threshold: From 0, which escalates nothing, to 1.
        on_failure: Where one of them cannot answer and is to blame: ``raise``, or ``other``, by
            which the other one's answer is given and its ``served_by`` says so.
        close_members: Whether both are closed with it.
        metrics: What is counted, and where.

    Raises:
        InputError: The two do not answer in the same words, or have no confidence.
    """

    def __init__(
        self,
        first: Predictor,
        second: Predictor,
        *,
        threshold: float,
        on_failure: OnFailure = "raise",
        close_members: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        self._pair = check_pair(first, second, names=(FIRST, SECOND))
        _check_threshold(threshold)
        if on_failure not in ("raise", "other"):
            raise InputError(f"on_failure is {on_failure!r}; 'raise' or 'other' was expected")
        identity = identity_of(first)
        if identity is not None and identity.task == "tensor":
            raise InputError(
                "the models' task is tensor, whose answers have no confidence; classifiers were "
                "expected"
            )
        self._first, self._second = first, second
        self._threshold, self._or_other = threshold, on_failure == "other"
        self._close_members = close_members
        self._closed = False
        self.metrics = metrics or Metrics(model=self._pair.name)
        self._counts = CascadeMetrics(self.metrics)
        self._counts.threshold.set(threshold)
        join_metrics(self.metrics, {FIRST: first, SECOND: second})

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the first model."""
        return self._first.signature

    @property
    def served_by(self) -> str:
        """Both who may answer; the answer itself says who did: ``Prediction.served_by``."""
        return f"{FIRST}:{self._first.served_by}|{SECOND}:{self._second.served_by}"

    @property
    def identity(self) -> ModelIdentity | None:
        """Which model the first one is, where it knows."""
        return identity_of(self._first)

    @property
    def threshold(self) -> float:
        """Confidence below which the second model is asked."""
        return self._threshold

    def metrics_text(self) -> str:
        """Return what happened so far, as OpenMetrics text."""
        return self.metrics.text()

    def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What both models accept; each prepares it for itself.

        Raises:
            InputError: The item is unusable.
            ServerError: A model could not answer, and no other one may.
            ClosedError: The cascade was closed.
        """
        answer = self._answers([item], on_error="raise")[0]
        assert isinstance(answer, Prediction)
        return answer

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
        """Answer several items, in their order; the unsure ones make one batch of the second model.

        Args:
            items: What both models accept; read to its end first.
            on_error: ``raise`` stops at the first bad item and names its position; ``return`` puts
                the error in its place.

        Raises:
            InputError: An item is unusable, or ``on_error`` is neither word.
            ServerError: A model could not answer, and no other one may.
            ClosedError: The cascade was closed.
        """
        self._check_open()
        rows = listed(items)
        if rows is None or on_error not in ("raise", "return"):
            # The first model says what is wrong with it.
            return self._first.predict_batch(items, on_error=on_error)
        return self._answers(rows, on_error=on_error)

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors, batch first, where both models take the same ones.

        Raises:
            InputError: The models take different tensors, or (as SignatureError) the feed does not
                fit them.
            ServerError: A model could not answer, and no other one may.
            ClosedError: The cascade was closed.
        """
        self._check_open()
        check_same_inputs(self._pair, self._first, self._second)
        try:
            rows = self._first.predict_tensors(tensors)
        except EdgemlError as exc:
            fault = self._stand_in_for(exc, FIRST, len(next(iter(tensors.values()))))
            others = self._second.predict_tensors(tensors)
            return [self._signed(row, SECOND, instead_of=(FIRST, fault)) for row in others]
        places = self._unsure(rows)
        answers = [self._signed(row, FIRST) for row in rows]
        if not places:
            return self._counted(answers)
        part = {name: array[places] for name, array in tensors.items()}
        try:
            again = self._second.predict_tensors(part)
        except EdgemlError as exc:
            fault = self._stand_in_for(exc, SECOND, len(places))
            for place in places:
                answers[place] = self._signed(rows[place], FIRST, instead_of=(SECOND, fault))
            return self._counted(answers)
        for place, row in zip(places, again, strict=True):
            answers[place] = self._signed(row, SECOND)
        return self._counted(answers)

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return probabilities for preprocessed tensors, batch first, as each row's model gave it.

        Raises:
            InputError: As :meth:`predict_tensors`.
            ServerError: Likewise.
            ClosedError: The cascade was closed.
        """
        answers = self.predict_tensors(tensors)
        spec = self.signature.outputs[0]
        rows = [list(answer.scores.values()) for answer in answers]
        return {spec.name: np.array(rows, dtype=spec.dtype)}

    def close(self) -> None:
        """Close both models, where they are ours to close."""
        self._closed = True
        if self._close_members:
            self._first.close()
            self._second.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def _answers(self, items: Sequence[Any], *, on_error: str) -> list[Prediction | EdgemlError]:
        """Answer items through the first model, and the unsure ones through the second."""
        self._check_open()
        rows, answers = self._from_first(items, on_error=on_error)
        places = self._unsure(rows)
        if places:
            again = self._from_second(items, places, on_error=on_error)
            for place, row in zip(places, again, strict=True):
                if not isinstance(row, EdgemlError):
                    answers[place] = self._signed(row, SECOND)
                    continue
                fault = fault_of(row)
                # What the second model cannot take is the item's own fault.
                if fault is None or not self._or_other:
                    answers[place] = row
                    continue
                first = rows[place]
                assert isinstance(first, Prediction)
                answers[place] = self._signed(first, FIRST, instead_of=(SECOND, fault))
        return self._counted(answers)

    def _from_first(
        self, items: Sequence[Any], *, on_error: str
    ) -> tuple[Sequence[Prediction | EdgemlError], list[Prediction | EdgemlError]]:
        """Return the first model's answers, and the same as the caller sees them.

        There are none of the first's where the second one had to give them all.
        """
        try:
            rows = self._ask(self._first, items, on_error=on_error)
        except EdgemlError as exc:
            fault = self._stand_in_for(exc, FIRST, len(items))
            others = self._ask(self._second, items, on_error=on_error)
            return (), [self._signed(row, SECOND, instead_of=(FIRST, fault)) for row in others]
        return rows, [self._signed(row, FIRST) for row in rows]

    def _from_second(
        self, items: Sequence[Any], places: Sequence[int], *, on_error: str
    ) -> Sequence[Prediction | EdgemlError]:
        """Return the second model's answers to some items, or what each could not be answered for.

        Raises what the caller shall see.
        """
        try:
            rows = self._ask(self._second, [items[place] for place in places], on_error="return")
        except EdgemlError as exc:
            self._stand_in_for(exc, SECOND, len(places))
            return [exc] * len(places)
        for place, row in zip(places, rows, strict=True):
            if not isinstance(row, EdgemlError):
                continue
            fault = fault_of(row)
            if fault is not None:
                self._counts.failures.labels(SECOND, fault).inc()
            if on_error == "raise" and (fault is None or not self._or_other):
                raise at_position(row, place) if len(items) > 1 else row
        return rows

    def _ask(
        self, model: Predictor, items: Sequence[Any], *, on_error: str
    ) -> Sequence[Prediction | EdgemlError]:
        """Ask one model; a single item goes by the cheaper call."""
        if len(items) == 1 and on_error == "raise":
            return [model.predict(items[0])]
        if on_error == "return":
            return model.predict_batch(items, on_error="return")
        return list(model.predict_batch(items))

    def _stand_in_for(self, error: EdgemlError, name: str, num_items: int) -> str:
        """Count a model's failure and return its fault, or raise where no other may answer."""
        fault = fault_of(error)
        if fault is None:
            raise error
        self._counts.failures.labels(name, fault).inc(num_items)
        if not self._or_other:
            raise error
        return fault

    def _unsure(self, rows: Sequence[Prediction | EdgemlError]) -> list[int]:
        return [
            place
            for place, row in enumerate(rows)
            if isinstance(row, Prediction)
            and confidence_of(row, multi_label=self._pair.multi_label) < self._threshold
        ]

    def _signed(self, row: Any, name: str, *, instead_of: tuple[str, str] | None = None) -> Any:
        """Say in an answer who gave it, and for whom."""
        if not isinstance(row, Prediction):
            return row
        text = f"{name}:{row.served_by}"
        if instead_of is not None:
            text += f" ({instead_of[0]} failed: {instead_of[1]})"
        return replace(row, served_by=text)

    def _counted(self, answers: list[Any]) -> list[Any]:
        for name in (FIRST, SECOND):
            given = sum(
                isinstance(row, Prediction) and row.served_by.startswith(f"{name}:")
                for row in answers
            )
            if given:
                self._counts.answers.labels(name).inc(given)
        return answers


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise InputError(
            f"the threshold is {threshold:g}; a confidence from 0 to 1 was expected; "
            "edgeml.cascade_curve finds one"
        )
