"""The one predictor: a task around an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload

import numpy.typing as npt

from edgeml.core.predictor import Engine, Prediction
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, InputError, ModelOutputError

_CHUNK = 32


class Task(Protocol):
    """What a task adds to an engine."""

    def prepare(self, item: Any) -> Any:
        """Turn one item into arrays, or raise InputError."""
        ...

    def collate(self, prepared: Sequence[Any]) -> Tensors:
        """Join prepared items into one feed, batch first."""
        ...

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn outputs into one prediction a sample."""
        ...


class TaskPredictor:
    """A :class:`~edgeml.core.predictor.Predictor` from a task and an engine.

    Args:
        task: Pre- and post-processing.
        engine: What runs the tensors; it checks its feed itself.
    """

    def __init__(self, task: Task, engine: Engine) -> None:
        self._task = task
        self._engine = engine
        self._closed = False

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model."""
        return self._engine.signature

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        return self._engine.served_by

    def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What the task accepts; for images bytes, path, PIL image or uint8 array.

        Raises:
            InputError: The item is unusable.
            ClosedError: The predictor was closed.
        """
        return self.predict_tensors(self._task.collate([self._prepare(item)]))[0]

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

    def predict_batch(self, items: Iterable[Any], *, on_error: str = "raise") -> Any:
        """Answer several items, in their order.

        Args:
            items: What the task accepts.
            on_error: ``raise`` stops at the first bad item and names its position; ``return`` puts
                the error in the bad item's place and answers its neighbours.

        Returns:
            One prediction an item; with ``return``, an error object where one could not be made.

        Raises:
            InputError: An item is unusable, or ``on_error`` is neither word.
            ClosedError: The predictor was closed.
        """
        if on_error not in ("raise", "return"):
            raise InputError(f"on_error is {on_error!r}; 'raise' or 'return' was expected")
        if isinstance(items, (str, bytes, bytearray, memoryview)):
            kind = type(items).__name__
            raise InputError(f"the items are one {kind}; a list was expected; call predict()")
        items = list(items)
        self._check_open()
        results: list[Prediction | EdgemlError] = []
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            results.extend(self._chunk(chunk, start=start, keep_errors=on_error == "return"))
        return results

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors.

        Args:
            tensors: Input name to array, batch first, as the signature says.

        Raises:
            SignatureError: The feed does not fit the signature.
            ModelOutputError: The model answered with NaN or infinity.
            ClosedError: The predictor was closed.
        """
        return self._task.interpret(self.run(tensors), served_by=self._engine.served_by)

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors, batch first.

        Raises:
            SignatureError: The feed does not fit the signature.
            ClosedError: The predictor was closed.
        """
        self._check_open()
        return self._engine.run(tensors)

    def close(self) -> None:
        """Release the engine; calls under way finish, later ones raise ClosedError."""
        self._closed = True
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self, item: Any) -> Any:
        self._check_open()
        return self._task.prepare(item)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def _chunk(
        self, items: Sequence[Any], *, start: int, keep_errors: bool
    ) -> list[Prediction | EdgemlError]:
        answers: dict[int, Prediction | EdgemlError] = {}
        prepared = []
        for index, item in enumerate(items):
            try:
                prepared.append((index, self._prepare(item)))
            except InputError as exc:
                if not keep_errors:
                    exc.add_note(f"item {start + index} of the batch")
                    raise
                answers[index] = exc
        if prepared:
            tensors = self._task.collate([value for _, value in prepared])
            predictions = self._interpret(self.run(tensors), len(prepared), keep_errors=keep_errors)
            answers.update(zip((index for index, _ in prepared), predictions, strict=True))
        return [answers[index] for index in range(len(items))]

    def _interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], batch: int, *, keep_errors: bool
    ) -> Sequence[Prediction | EdgemlError]:
        served_by = self._engine.served_by
        try:
            return self._task.interpret(outputs, served_by=served_by)
        except ModelOutputError:
            if not keep_errors:
                raise
        answers: list[Prediction | EdgemlError] = []
        for row in range(batch):  # one sample's NaN must not cost its neighbours their answers
            one = {name: array[row : row + 1] for name, array in outputs.items()}
            try:
                answers.extend(self._task.interpret(one, served_by=served_by))
            except ModelOutputError as exc:
                answers.append(exc)
        return answers
