"""Callers whose answers are known, at work beside the bad requests and in the same batches."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as official
from tritonclient.utils import InferenceServerException

from benchmarks.robustness.subjects import Subject
from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import Tensors

_BURST = 8
_TIMEOUT_S = 20.0
_TOLERANCE = 1e-5
Answer = tuple[int, Any, Any]  # number of the feed, result, error


class WrongAnswerError(Exception):
    """A caller was answered with values that are not its own."""


def known_answers(url: str, subjects: Sequence[Subject]) -> dict[str, list[Tensors]]:
    """Return what every feed is answered by a server that nobody else asks.

    Raises:
        WrongAnswerError: It is not what ONNX Runtime gives in-process.
    """
    known = {}
    with official.InferenceServerClient(url.removeprefix("grpc://")) as client:
        for subject in subjects:
            rows = []
            for number, feed in enumerate(subject.feeds):
                got = arrays_of(
                    client.infer(subject.model, inputs_of(feed), client_timeout=_TIMEOUT_S)
                )
                for name, array in (subject.answers or [{}] * len(subject.feeds))[number].items():
                    # One number a sample travels as a row of one.
                    if not same({name: got[name].reshape(array.shape)}, {name: array}):
                        raise WrongAnswerError(f"{subject.model}, feed {number}: {name}")
                rows.append(got)
            known[subject.model] = rows
    return known


class Neighbours:
    """Threads that send bursts of valid requests until they are told to stop.

    A burst is sent without waiting for answers, so that Triton joins what it holds.

    Args:
        url: gRPC URL of the server.
        subjects: Models and feeds; each thread takes them all in turn.
        known: The answers of :func:`known_answers`.
        threads: How many callers.
        pause_s: How long a caller waits after each burst.
    """

    def __init__(
        self,
        url: str,
        subjects: Sequence[Subject],
        known: dict[str, list[Tensors]],
        *,
        threads: int = 2,
        pause_s: float = 0.0,
    ) -> None:
        self._url, self._subjects, self._known = url, subjects, known
        self._stop, self._pause_s = threading.Event(), pause_s
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the callers once their running burst is answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def forgive(self, faults: int, refused: int) -> None:
        """Take back refusals since a moment: the server had died under them."""
        with self._lock:
            self.counts["lost"] += self.counts["refused"] - refused
            self.counts["refused"] = refused
            kept = self.faults[faults:]
            del self.faults[faults:]
            self.faults += [text for text in kept if text.startswith("wrong")]

    def _call(self, number: int) -> None:
        rng = np.random.default_rng(number)
        with official.InferenceServerClient(self._url.removeprefix("grpc://")) as client:
            while not self._stop.is_set():
                subject = self._subjects[int(rng.integers(len(self._subjects)))]
                self._burst(client, subject, rng)

    def _burst(self, client: Any, subject: Subject, rng: np.random.Generator) -> None:
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        numbers = rng.integers(len(subject.feeds), size=_BURST).tolist()
        for number in numbers:

            def keep(result: Any, error: Any, number: int = number) -> None:
                answers.put((number, result, error))

            feed = inputs_of(subject.feeds[number])
            try:
                client.async_infer(subject.model, feed, keep)
            except InferenceServerException as exc:
                answers.put((number, None, exc))
        for _ in numbers:
            self._judge(subject, *_next(answers))
        if self._pause_s:
            self._stop.wait(self._pause_s)

    def _judge(self, subject: Subject, number: int, result: Any, error: Any) -> None:
        kind = "refused"
        if error is None:
            right = same(arrays_of(result), self._known[subject.model][number])
            kind = "right" if right else "wrong"
        with self._lock:
            self.counts[kind] += 1
            if kind != "right":
                self.faults.append(f"{kind}: {subject.model} feed {number}: {error}"[:300])


def _next(answers: queue.SimpleQueue[Answer]) -> Answer:
    """Wait for an answer, a second time too: this process may have been stopped for a while."""
    try:
        return answers.get(timeout=_TIMEOUT_S)
    except queue.Empty:
        return answers.get(timeout=_TIMEOUT_S)


def same(got: Tensors, wanted: Tensors) -> bool:
    """Return whether every wanted tensor is there with its values; sums may differ in order."""
    for name, array in wanted.items():
        found = got.get(name)
        if found is None or found.shape != array.shape or found.dtype != array.dtype:
            return False
        if array.dtype.kind == "f":
            if not np.allclose(found, array, rtol=_TOLERANCE, atol=_TOLERANCE):
                return False
        elif not np.array_equal(found, array):
            return False
    return True


def executions(url: str, models: Sequence[str]) -> dict[str, tuple[int, int, int, int]]:
    """Return requests answered and refused, samples run and runs of each model, if it is there."""
    found = {}
    with (
        contextlib.suppress(InferenceServerException),
        official.InferenceServerClient(url.removeprefix("grpc://")) as client,
    ):
        for model in models:
            (row,) = client.get_inference_statistics(model, client_timeout=5).model_stats
            seen = row.inference_stats
            counts = (row.inference_count, row.execution_count)
            found[model] = (seen.success.count, seen.fail.count, *counts)
    return found


def inputs_of(feed: Tensors) -> list[Any]:
    """Return tensors as the official client takes them."""
    made = []
    for name, array in feed.items():
        wire = "BYTES" if array.dtype == np.object_ else BY_NUMPY[str(array.dtype)].wire
        tensor = official.InferInput(name, array.shape, wire)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def arrays_of(result: Any) -> Tensors:
    """Return what the official client got."""
    return {row.name: result.as_numpy(row.name) for row in result.get_response().outputs}
