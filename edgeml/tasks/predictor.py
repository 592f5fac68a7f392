"""The one predictor: a task around an engine."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, Protocol, overload

import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.identity import ModelIdentity
from edgeml.core.predictor import Engine, Prediction
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, InputError, ModelOutputError
from edgeml.tasks.faults import OF_ONE_FEED, unless_all_fail
from edgeml.tasks.windows import in_order, windows_of

# Fewer items are answered sooner than a pool of threads is there.
_WORTH_A_POOL = 4
# Pictures that a thread prepares and computes together: more do not fit its core's cache.
_OF_A_THREAD = 8


class Task(Protocol):
    """What a task adds to an engine.

    Attributes:
        window: Items of a stream that are prepared, grouped and answered together.
    """

    window: int

    def prepare(self, item: Any) -> Any:
        """Turn one item into arrays, or raise InputError."""
        ...

    def decode_golden(self, contents: bytes) -> Any:
        """Turn the contents of a golden input's file into an item."""
        ...

    def collate(self, prepared: Sequence[Any]) -> Tensors:
        """Join prepared items into one feed, batch first."""
        ...

    def batches(self, prepared: Sequence[Any]) -> Sequence[Sequence[int]]:
        """Group prepared items into feeds: indices, each once."""
        ...

    def is_truncated(self, prepared: Any) -> bool:
        """Return whether an item was cut to fit the model."""
        ...

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn outputs into one prediction a sample."""
        ...


class TaskPredictor(Closing):
    """A :class:`~edgeml.core.predictor.Predictor` from a task and an engine.

    Args:
        task: Pre- and post-processing.
        engine: What runs the tensors; it checks its feed itself.
        batch_engine: What runs batches, streams and feeds of more than one sample, where
            ``engine``'s answers would depend on their neighbours; None means ``engine``.
        prepare_threads: How many threads prepare and compute parts of a batch or a stream at once,
            where that is worth a thread: pictures are decoded without Python's lock.
        open_thread_engine: Opens what runs the parts of a stream that is longer than a window: an
            engine of one thread, which all of them call. It is opened at the first such
            stream; None means the one for batches.
        identity: Which model this is; None where nobody said.
    """

    def __init__(
        self,
        task: Task,
        engine: Engine,
        *,
        batch_engine: Engine | None = None,
        prepare_threads: int = 1,
        open_thread_engine: Callable[[], Engine] | None = None,
        identity: ModelIdentity | None = None,
    ) -> None:
        self._task = task
        self._identity = identity
        self._prepare_threads = prepare_threads
        self._engine = engine
        self._batch_engine = batch_engine or engine
        self._open_thread_engine = open_thread_engine
        self._thread_engine: Engine | None = None
        self._opening = threading.RLock()  # a signal's handler may close what it interrupts
        self._closed = False

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model."""
        return self._engine.signature

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        return self._engine.served_by

    @property
    def identity(self) -> ModelIdentity | None:
        """Which model this is, as its bundle or its server's contract says."""
        return self._identity

    def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What the task accepts; for images bytes, path, PIL image or uint8 array; for text
                a str.

        Raises:
            InputError: The item is unusable.
            ClosedError: The predictor was closed.
        """
        self._check_open()
        prepared = self._task.prepare(item)
        answer = self.predict_tensors(self._task.collate([prepared]))[0]
        return replace(answer, truncated=True) if self._task.is_truncated(prepared) else answer

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
            InferenceError: The runtime cannot compute an item; with ``return``, where it computes
                none of two or more, or none of a whole window.
            ClosedError: The predictor was closed.
        """
        return list(self.predict_stream(items, on_error=on_error))

    def predict_stream(
        self, items: Iterable[Any], *, on_error: str = "raise"
    ) -> Iterator[Prediction | EdgemlError]:
        """Answer a stream of items in their order, in bounded memory.

        Items are taken in windows. Within one, those that run well together share a feed: texts of
        like length, so that little is padded. While one window is computed the next is prepared;
        with several threads to prepare with, each prepares and computes parts of its own.

        Args:
            items: What the task accepts; a generator is read as far as needed: a window ahead, or
                a part of one for each thread.
            on_error: As in :meth:`predict_batch`.

        Yields:
            One prediction an item; with ``return``, an error object where one could not be made.

        Raises:
            InputError: An item is unusable, or ``on_error`` is neither word.
            InferenceError: The runtime cannot compute an item; with ``return``, where it computes
                none of two or more, or none of a whole window.
            ClosedError: The predictor was closed.
        """
        if on_error not in ("raise", "return"):
            raise InputError(f"on_error is {on_error!r}; 'raise' or 'return' was expected")
        stream = _stream_of(items)
        self._check_open()
        if on_error == "raise":
            return self._stream(stream, keep_errors=False)
        return self._stream_with_errors(stream)

    def _stream(
        self, items: Iterator[Any], *, keep_errors: bool
    ) -> Generator[Prediction | EdgemlError, None, None]:
        size, threads = self._task.window, self._prepare_threads
        first = list(itertools.islice(items, size + 1))
        is_long = len(first) > size
        if not is_long and (threads == 1 or len(first) < _WORTH_A_POOL):
            # The common case: no thread for one window.
            engine = self._engine if len(first) == 1 else self._batch_engine
            prepared = _settled(map(self._prepare_one, first), 0, keep_errors)
            yield from self._answer(prepared, keep_errors, engine)
            return
        # Pictures may be large: an iterator lets go of its list at the end, a chain does not.
        stream = itertools.chain(iter(first), items)
        del first
        if threads == 1:
            yield from self._stream_ahead(stream, keep_errors=keep_errors)
        else:
            engine = self._engine_of_threads() if is_long else self._batch_engine

            def whole(window: Sequence[Any], start: int) -> list[Prediction | EdgemlError]:
                prepared = _settled(map(self._prepare_one, window), start, keep_errors)
                return self._answer(prepared, keep_errors, engine)

            windows = windows_of(stream, min(size, _OF_A_THREAD), threads)
            for answers in in_order(windows, whole, threads):
                yield from answers

    def _stream_with_errors(self, items: Iterator[Any]) -> Iterator[Prediction | EdgemlError]:
        """Answer with errors in their places, and end the work where the engine is at fault."""
        with contextlib.closing(self._stream(items, keep_errors=True)) as answers:
            yield from unless_all_fail(answers, max(2, self._task.window))

    def _stream_ahead(
        self, items: Iterator[Any], *, keep_errors: bool
    ) -> Iterator[Prediction | EdgemlError]:
        """Prepare the next window in a thread while one is computed with all threads."""
        size, start = self._task.window, 0
        window = list(itertools.islice(items, size))
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = pool.map(self._prepare_one, window)
            while window:
                following = list(itertools.islice(items, size))
                prepared = _settled(pending, start, keep_errors)
                pending = pool.map(self._prepare_one, following)
                yield from self._answer(prepared, keep_errors, self._batch_engine)
                start += len(window)
                window = following

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors.

        Args:
            tensors: Input name to array, batch first, as the signature says.

        Raises:
            SignatureError: The feed does not fit the signature.
            ModelOutputError: The model answered with NaN or infinity.
            ClosedError: The predictor was closed.
        """
        engine = self._engine_for(tensors)
        return self._task.interpret(self._run(engine, tensors), served_by=engine.served_by)

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors, batch first.

        Raises:
            SignatureError: The feed does not fit the signature.
            ClosedError: The predictor was closed.
        """
        return self._run(self._engine_for(tensors), tensors)

    def close(self) -> None:
        """Release the engine; calls under way finish, later ones raise ClosedError."""
        with self._opening:
            self._closed = True
            engines = (self._engine, self._batch_engine, self._thread_engine)
        for engine in engines:
            if engine is not None:
                engine.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def _engine_for(self, tensors: Tensors) -> Engine:
        """Return what runs a feed: one sample alone, or several beside each other."""
        if self._batch_engine is self._engine:
            return self._engine
        sizes = {array.shape[0] for array in tensors.values() if array.ndim}
        return self._engine if sizes == {1} else self._batch_engine

    def _engine_of_threads(self) -> Engine:
        """Return what the threads of a long stream call, each for its part."""
        if self._open_thread_engine is None:
            return self._batch_engine
        with self._opening:
            self._check_open()
            if self._thread_engine is None:
                engine = self._open_thread_engine()
                if self._closed:
                    engine.close()
                    raise ClosedError
                self._thread_engine = engine
            return self._thread_engine

    def _run(self, engine: Engine, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        self._check_open()
        return engine.run(tensors)

    def _prepare_one(self, item: Any) -> Any:
        """Return a prepared item, or what is wrong with it."""
        try:
            return self._task.prepare(item)
        except InputError as exc:
            return exc

    def _answer(
        self,
        prepared: Sequence[Any],
        keep_errors: bool,  # noqa: FBT001
        engine: Engine,
    ) -> list[Prediction | EdgemlError]:
        """Answer one window in its order, with one engine.

        Also a feed of one sample: who shares a feed is decided by who else is in the window.
        """
        answers: list[Prediction | EdgemlError] = [*prepared]
        places = [i for i, row in enumerate(prepared) if not isinstance(row, EdgemlError)]
        usable = [prepared[place] for place in places]
        for group in self._task.batches(usable) if usable else ():
            feeds = [usable[index] for index in group]
            rows = self._run_group(engine, feeds, keep_errors=keep_errors)
            for index, row in zip(group, rows, strict=True):
                if isinstance(row, Prediction) and self._task.is_truncated(usable[index]):
                    answers[places[index]] = replace(row, truncated=True)
                else:
                    answers[places[index]] = row
        return answers

    def _run_group(
        self, engine: Engine, feeds: Sequence[Any], *, keep_errors: bool
    ) -> Sequence[Prediction | EdgemlError]:
        """Answer one feed; what the runtime cannot compute costs its own sample alone."""
        try:
            outputs = self._run(engine, self._task.collate(feeds))
        except OF_ONE_FEED as exc:
            if not keep_errors:
                raise
            if len(feeds) == 1:
                return [exc]
            return [
                row for feed in feeds for row in self._run_group(engine, [feed], keep_errors=True)
            ]
        return self._interpret(outputs, len(feeds), engine.served_by, keep_errors=keep_errors)

    def _interpret(
        self,
        outputs: Mapping[str, npt.NDArray[Any]],
        batch: int,
        served_by: str,
        *,
        keep_errors: bool,
    ) -> Sequence[Prediction | EdgemlError]:
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


def _settled(prepared: Iterable[Any], start: int, keep_errors: bool) -> list[Any]:  # noqa: FBT001
    """Return one window's items; the first error ends it where errors are not kept."""
    rows: list[Any] = []
    for index, row in enumerate(prepared):
        if isinstance(row, InputError) and not keep_errors:
            row.add_note(f"item {start + index} of the batch")
            raise row
        rows.append(row)
    return rows


def _stream_of(items: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over items; a text or a single object would be a mistake."""
    try:
        if not isinstance(items, (str, bytes, bytearray, memoryview)):
            return iter(items)
    except TypeError:
        pass
    kind = type(items).__name__
    raise InputError(f"the items are one {kind}; a list was expected; call predict()")
