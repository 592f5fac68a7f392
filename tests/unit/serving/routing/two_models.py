"""Two models for tests of cascades and canaries: what each says of an item is a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from edgeml.core.identity import ModelIdentity
from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import EdgemlError, InputError

LABELS = ("cat", "dog", "owl")
# What a model says of a number: a label and its probability, or an error.
Says = Callable[[float], tuple[str, float] | Exception]


def signature(width: int = 1) -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec(name="values", dtype="float32", shape=("batch", width)),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("batch", 3)),),
    )


def identity(name: str = "animals", *, labels: tuple[str, ...] = LABELS, **facts: Any) -> Any:
    return ModelIdentity(name=name, version="1", task="numbers", labels=labels, **facts)


class Scripted:
    """A predictor of numbers; anything else is a bad input, which it refuses."""

    def __init__(self, says: Says, *, served_by: str = "fake", width: int = 1, **facts: Any):
        self.says = says
        self.served_by = served_by
        self.signature = signature(width)
        self.identity = facts.pop("identity", None) or identity(**facts)
        self.calls: list[Any] = []
        self.closed = threading.Event()

    def predict(self, item: Any) -> Prediction:
        self.calls.append(item)
        return self._one(item)

    def predict_batch(self, items: Any, *, on_error: str = "raise") -> Any:
        if isinstance(items, str) or on_error not in ("raise", "return"):
            raise InputError("no list of items")
        rows = list(items)
        self.calls.append(rows)
        answers: list[Any] = []
        for place, item in enumerate(rows):
            try:
                answers.append(self._one(item))
            except InputError as exc:
                if on_error == "raise":
                    exc.add_note(f"item {place} of the batch")
                    raise
                answers.append(exc)
        return answers

    def predict_tensors(self, tensors: Any) -> list[Prediction]:
        self.calls.append(tensors)
        return [self._one(float(value)) for value in tensors["values"][:, 0]]

    def run(self, tensors: Any) -> dict[str, Any]:
        rows = [list(row.scores.values()) for row in self.predict_tensors(tensors)]
        return {"probabilities": np.array(rows, dtype=np.float32)}

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, item: Any) -> Prediction:
        if not isinstance(item, (int, float)):
            raise InputError(f"a {type(item).__name__} is no number")
        said = self.says(float(item))
        if isinstance(said, Exception):
            raise said
        label, score = said
        rest = (1 - score) / (len(LABELS) - 1)
        scores = {name: score if name == label else rest for name in LABELS}
        return Prediction(label=label, score=score, scores=scores, served_by=self.served_by)


def always(label: str, score: float = 0.9) -> Says:
    """A model that says the same of every item."""
    return lambda _: (label, score)


def failing(error: EdgemlError | Exception) -> Says:
    """A model that fails every item."""
    return lambda _: error


def sample(predictor: Any, name: str, **labels: str) -> float | None:
    """What a predictor's metrics say; None where nothing was counted."""
    known = {"model": "animals", "part": "", **labels}
    return predictor.metrics.registry.get_sample_value(f"edgeml_{name}", known)
