"""The targets, made in the load generator's own process.

Each takes JSON values and returns a target of the load engine. A call begins with the item as a
user has it and ends with the answer as a user reads it: decoding and parsing are inside.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import edgeml
from edgeml.bench.targets import Call
from edgeml.core.bundle import Bundle
from edgeml.core.predictor import Predictor
from edgeml.errors import ServerError
from edgeml.workflows.profiling.http_caller import HttpCaller
from edgeml.workflows.profiling.json_caller import JsonCaller
from edgeml.workflows.profiling.samples import (
    Samples,
    answer_of,
    same_answer,
    same_batch,
    samples_of,
)


class ItemTarget:
    """A target over the items of a bundle, one at a time or several to a query.

    Args:
        connect: Returns one caller's way to ask: items' positions to answers.
        samples: The items.
        client: What carries the queries.
        batch: Items of one query.
        expected: The right answers; None where they are not known.
        close: Releases what the target holds.
        conditions: What shall be kept beside the record.
    """

    def __init__(
        self,
        connect: Callable[[], Callable[[Sequence[int]], Sequence[Any]]],
        samples: Samples,
        *,
        client: str,
        batch: int,
        expected: Sequence[Any] | None,
        close: Callable[[], None],
        conditions: Mapping[str, Any],
    ) -> None:
        self._connect, self._close, self._batch = connect, close, batch
        self._expected = expected
        self.client = client
        self.num_samples = len(samples.items)
        self.checks_answers = expected is not None
        self.conditions = dict(conditions)

    def connect(self) -> Call:
        """Return one caller's way to ask."""
        ask = self._connect()
        if self._batch == 1:
            return lambda sample: ask((sample,))[0]
        return lambda sample: ask(self._positions(sample))

    def check(self, sample: int, answer: Any) -> str | None:
        """Compare with the expected answer."""
        if self._expected is None:
            return None
        if self._batch == 1:
            right = same_answer(self._expected[sample], answer)
        else:
            wanted = [self._expected[at] for at in self._positions(sample)]
            right = same_batch(wanted, answer)
        return None if right else f"sample {sample}: not what the same variant answers in-process"

    def close(self) -> None:
        """Release the target."""
        self._close()

    def _positions(self, sample: int) -> list[int]:
        return [(sample + more) % self.num_samples for more in range(self._batch)]


def edge(
    *,
    bundle: str,
    num_threads: int,
    batch: int = 1,
    expected: list[Any] | None = None,
    variant: str | None = None,
) -> ItemTarget:
    """Return the bundle in the generator's process. Its callers take turns.

    Without turns several callers would compute on several processors at once, which no other target
    with this number of threads may.
    """
    predictor = edgeml.load(bundle, variant=variant, num_threads=num_threads)
    samples = samples_of(Bundle.read(bundle))
    turn = threading.Lock()
    asked = _asker(predictor, samples)

    def ask(positions: Sequence[int]) -> Sequence[Any]:
        with turn:
            return asked(positions)

    return ItemTarget(
        lambda: ask,
        samples,
        client="in-process",
        batch=batch,
        expected=expected,
        close=predictor.close,
        conditions={"served_by": predictor.served_by, "threads": num_threads},
    )


def triton(
    *,
    bundle: str,
    url: str,
    model: str,
    shared_memory: bool = False,
    batch: int = 1,
    expected: list[Any] | None = None,
) -> ItemTarget:
    """Return a model on Triton through our client."""
    predictor = edgeml.connect(url, model=model, bundle=bundle, shared_memory=shared_memory)
    samples = samples_of(Bundle.read(bundle))
    scheme = url.partition(":")[0]
    return ItemTarget(
        lambda: _asker(predictor, samples),
        samples,
        client=f"edgeml {scheme}{' shared memory' if shared_memory else ''}",
        batch=batch,
        expected=expected,
        close=predictor.close,
        conditions={"served_by": predictor.served_by},
    )


def triton_json(
    *, bundle: str, url: str, model: str, batch: int = 1, expected: list[Any] | None = None
) -> ItemTarget:
    """Return a model on Triton whose tensors travel as JSON text."""
    opened = Bundle.read(bundle)
    samples = samples_of(opened)
    callers = contextlib.ExitStack()

    def connect() -> Callable[[Sequence[int]], Sequence[Any]]:
        caller = JsonCaller(opened, url=url, model=model)
        callers.callback(caller.caller.close)
        return lambda positions: [
            answer_of(row) for row in caller.predict([samples.items[at] for at in positions])
        ]

    return ItemTarget(
        connect,
        samples,
        client="http.client, JSON",
        batch=batch,
        expected=expected,
        close=callers.close,
        conditions={},
    )


def http(*, bundle: str, url: str, batch: int = 1, expected: list[Any] | None = None) -> ItemTarget:
    """Return an app that speaks as ``edgeml serve`` does."""
    opened = Bundle.read(bundle)
    samples, task = samples_of(opened), opened.manifest.task
    callers = contextlib.ExitStack()

    def connect() -> Callable[[Sequence[int]], Sequence[Any]]:
        caller = HttpCaller(url)
        callers.callback(caller.close)
        if batch == 1:
            return lambda at: [
                read_answer(caller.post(samples.bodies[at[0]], samples.kinds[at[0]]))
            ]

        def ask(positions: Sequence[int]) -> Sequence[Any]:
            value = {"items": [as_json(task, samples, at) for at in positions]}
            reply = caller.post(json.dumps(value).encode(), "application/json")
            return [read_answer(row) for row in reply["predictions"]]

        return ask

    return ItemTarget(
        connect,
        samples,
        client="http.client",
        batch=batch,
        expected=expected,
        close=callers.close,
        conditions={},
    )


def as_json(task: str, samples: Samples, position: int) -> dict[str, Any]:
    """Return an item as one object of a batch."""
    item = samples.items[position]
    if task == "text-classification":
        return {"text": item}
    if task == "tensor":
        return {"inputs": {name: np.asarray(array).tolist() for name, array in item.items()}}
    return {"image": base64.b64encode(samples.bodies[position]).decode()}


def read_answer(value: Mapping[str, Any]) -> Any:
    """Return what is compared of an app's answer.

    Raises:
        ServerError: It is an error.
    """
    if "error" in value:
        raise ServerError(str(value["error"]), url="http")
    if "outputs" in value:
        return {name: np.asarray(array) for name, array in value["outputs"].items()}
    return value["label"]


def _asker(predictor: Predictor, samples: Samples) -> Callable[[Sequence[int]], Sequence[Any]]:
    def ask(positions: Sequence[int]) -> Sequence[Any]:
        if len(positions) == 1:
            return [answer_of(predictor.predict(samples.items[positions[0]]))]
        rows = predictor.predict_batch([samples.items[at] for at in positions])
        return [answer_of(row) for row in rows]

    return ask
