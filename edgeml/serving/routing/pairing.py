"""What two predictors must have in common before one may answer beside the other.

Unlike the members of a fallback, which run the same model, these are two models: their inputs may
differ in size, their labels may not differ in anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeml.core.identity import identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import EdgemlError, InputError
from edgeml.serving.routing.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models for the same task.

    Attributes:
        name: Of the model, where one of them knows it.
        same_inputs: Whether both take the same tensors.
        multi_label: Whether several labels may hold at once.
    """

    name: str
    same_inputs: bool
    multi_label: bool


def check_pair(first: Any, second: Any, *, names: tuple[str, str]) -> Pair:
    """Check that two models answer in the same words.

    Args:
        first: A predictor.
        second: Another.
        names: How messages call them.

    Raises:
        InputError: One is no predictor of items, or task or labels differ.
    """
    for name, one in zip(names, (first, second), strict=True):
        # A predictor for an event loop has the same methods, and answers with coroutines.
        if not isinstance(one, Predictor) or inspect.iscoroutinefunction(one.predict):
            raise InputError(
                f"the {name} model is a {type(one).__name__}; a predictor was expected, as "
                "edgeml.load or edgeml.connect give"
            )
    mine, theirs = identity_of(first), identity_of(second)
    differing: list[str] = []
    if mine is not None and theirs is not None:
        keys = ("task", "labels", "multi_label")
        differing = [key for key in keys if getattr(mine, key) != getattr(theirs, key)]
    elif _classes(first) != _classes(second):
        differing = ["number of classes"]
    if differing:
        raise InputError(
            f"{names[0]} ({first.served_by}) and {names[1]} ({second.served_by}) differ in "
            f"{', '.join(differing)}; two models with the same labels in the same order were "
            "expected; train both on the same classes"
        )
    known = mine or theirs
    return Pair(
        name=known.name if known else "",
        same_inputs=first.signature == second.signature,
        multi_label=known.multi_label if known else False,
    )


def check_same_inputs(pair: Pair, first: Predictor, second: Predictor) -> None:
    """Refuse tensors that only one of two models could take.

    Raises:
        InputError: Their signatures differ.
    """
    if not pair.same_inputs:
        raise InputError(
            f"tensors for {_inputs(first)} are none for {_inputs(second)}; items were expected, "
            "which each model prepares for itself; call predict() or predict_batch()"
        )


def confidence_of(answer: Prediction, *, multi_label: bool = False) -> float:
    """Return how sure a model is of its answer, from 0 to 1.

    The largest probability; where several labels may hold, that of the label which it is least
    sure of, be it for or against.
    """
    if multi_label and answer.scores:
        return min(max(score, 1.0 - score) for score in answer.scores.values())
    return answer.score


def join_metrics(metrics: Metrics, members: Mapping[str, Predictor]) -> None:
    """Show what members count themselves, such as a fallback's failures, under their names."""
    for name, member in members.items():
        inner = getattr(member, "metrics", None)
        if isinstance(inner, Metrics):
            metrics.join(inner, part=name)


def listed(items: Any) -> list[Any] | None:
    """Return items that can be read twice, or None where a model shall refuse what was given."""
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        return None
    try:
        return list(iter(items))
    except TypeError:
        return None


def at_position(error: EdgemlError, position: int) -> EdgemlError:
    """Return an error that says which item of a batch it is about."""
    error.add_note(f"item {position} of the batch")
    return error


def _classes(predictor: Predictor) -> object:
    return predictor.signature.outputs[0].shape[-1]


def _inputs(predictor: Predictor) -> str:
    parts = [
        f"{spec.name} {spec.dtype} ({', '.join(map(str, spec.shape))})"
        for spec in predictor.signature.inputs
    ]
    return f"{predictor.served_by} [{', '.join(parts)}]"
