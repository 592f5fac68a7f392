"""The predictor for an event loop: the same answers, as coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError
from edgeml.serving.client.async_engine import AsyncTritonEngine
from edgeml.tasks.predictor import Task, TaskPredictor


class AsyncPredictor:
    """A predictor whose methods are coroutines; an async context manager that closes.

    Items are prepared in threads. It belongs to the event loop in which it was made.

    Args:
        task: Pre- and post-processing.
        engine: What runs the tensors.
    """

    def __init__(self, task: Task, engine: AsyncTritonEngine) -> None:
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

    async def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What the task accepts.

        Raises:
            InputError: The item is unusable.
            ServerError: The server failed; see ``AsyncTritonEngine.run``.
            ClosedError: The predictor was closed.
        """
        self._check_open()
        feed, truncated = await asyncio.to_thread(self._prepare, item)
        (answer,) = await self.predict_tensors(feed)
        return replace(answer, truncated=True) if truncated else answer

    @overload
    async def predict_batch(self, items: Iterable[Any]) -> list[Prediction]: ...

    @overload
    async def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["return"]
    ) -> list[Prediction | EdgemlError]: ...

    @overload
    async def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["raise"]
    ) -> list[Prediction]: ...

    async def predict_batch(self, items: Iterable[Any], *, on_error: str = "raise") -> Any:
        """Answer several items, in their order; the same as ``Predictor.predict_batch``.

        Args:
            items: What the task accepts; another thread reads them.
            on_error: ``raise`` stops at the first bad item and names its position; ``return`` puts
                the error in the bad item's place and answers its neighbours.

        Returns:
            One prediction an item; with ``return``, an error object where one could not be made.

        Raises:
            InputError: An item is unusable, or ``on_error`` is neither word.
            ServerError: The server failed; see ``AsyncTritonEngine.run``.
            ClosedError: The predictor was closed.
        """
        self._check_open()
        bridge = _Bridge(self._engine, asyncio.get_running_loop())
        predictor = TaskPredictor(self._task, bridge)
        try:
            return await asyncio.to_thread(
                lambda: list(predictor.predict_stream(items, on_error=on_error))
            )
        finally:
            bridge.close()  # nothing is left to do, or this call was cancelled

    async def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors.

        Args:
            tensors: Input name to array, batch first, as the signature says.

        Raises:
            SignatureError: The feed does not fit the signature.
            ModelOutputError: The model answered with NaN or infinity.
            ServerError: The server failed; see ``AsyncTritonEngine.run``.
            ClosedError: The predictor was closed.
        """
        self._check_open()
        outputs = await self._engine.run(tensors)
        return self._task.interpret(outputs, served_by=self._engine.served_by)

    async def close(self) -> None:
        """Close the connection; calls under way fail, later ones raise ClosedError."""
        self._closed = True
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _prepare(self, item: Any) -> tuple[Tensors, bool]:
        prepared = self._task.prepare(item)
        return self._task.collate([prepared]), self._task.is_truncated(prepared)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError


class _Bridge:
    """The engine of an event loop, for one batch that a thread prepares and groups."""

    def __init__(self, engine: AsyncTritonEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._closed = False
        self._call: concurrent.futures.Future[dict[str, npt.NDArray[Any]]] | None = None

    @property
    def signature(self) -> ModelSignature:
        return self._engine.signature

    @property
    def served_by(self) -> str:
        return self._engine.served_by

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        if self._closed:
            raise ClosedError
        self._call = asyncio.run_coroutine_threadsafe(self._engine.run(tensors), self._loop)
        return self._call.result()

    def close(self) -> None:
        self._closed = True
        if self._call is not None:
            self._call.cancel()
