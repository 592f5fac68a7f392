"""``edgeml.compare``: several deployments of one model, same inputs, same clock, taking turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.paired import compare_accuracy
from edgeml.core.predictor import Predictor
from edgeml.core.signature import Tensors
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One deployment's row.

    Attributes:
        target: Its name.
        served_by: Who really answered.
        latency: One item, batch 1, in turns with the others.
        accuracy: Share of right answers on the labelled samples; None without labels.
        accuracy_drop: Paired drop against the baseline; None without labels.
    """

    target: str
    served_by: str
    latency: Latency
    accuracy: float | None
    accuracy_drop: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "target": self.target,
            "served_by": self.served_by,
            **asdict(self.latency),
            "accuracy": self.accuracy,
            "accuracy_drop": self.accuracy_drop,
        }


def compare(
    predictors: Mapping[str, Predictor],
    inputs: Tensors | Sequence[Any],
    *,
    baseline: str,
    labels: npt.NDArray[np.int64] | None = None,
    plan: TimingPlan | None = None,
) -> list[Comparison]:
    """Compare classifiers behind any engine on latency and, with labels, on accuracy.

    Tensors are timed through ``predict_tensors``, the first sample alone: what an engine costs.
    Items, such as texts, are timed through ``predict``, one after the other in the same order for
    all: what a caller waits for. Equal thread counts are the caller's to arrange: they belong to
    how each predictor was opened.

    Args:
        predictors: Name to predictor.
        inputs: Preprocessed samples, batch first; or items.
        baseline: Name of the one that ratios refer to.
        labels: int64 ``(samples,)``: the right class of each sample, an index into the model's
            labels; for items, into the order of ``scores``.
        plan: How much to time.

    Raises:
        InputError: The baseline is unknown, there is nothing to compare on, or the labels do not
            fit the samples.
        SignatureError: The tensors do not fit the models.
    """
    if baseline not in predictors:
        names = ", ".join(predictors)
        raise InputError(f"the baseline '{baseline}' is none of {names}; name one of them")
    tensors = inputs if isinstance(inputs, Mapping) else None
    num_samples = len(next(iter(tensors.values()))) if tensors is not None else len(inputs)
    if not num_samples:
        raise InputError("there are no samples to compare on; at least one was expected")
    if labels is not None and len(labels) != num_samples:
        raise InputError(f"{len(labels)} labels were given for {num_samples} samples; one each")
    right: dict[str, npt.NDArray[np.bool_]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for name, predictor in predictors.items():
        calls[name] = _call(predictor, inputs)
        if labels is not None:
            answers = (
                _of_items(predictor, inputs) if tensors is None else _of_tensors(predictor, tensors)
            )
            right[name] = answers == labels
    latencies = compare_latency(calls, baseline=baseline, plan=plan)
    rows = []
    for name, predictor in predictors.items():
        paired = compare_accuracy(right[baseline], right[name]) if right else None
        rows.append(
            Comparison(
                target=name,
                served_by=predictor.served_by,
                latency=latencies[name],
                accuracy=paired.candidate if paired else None,
                accuracy_drop=paired.drop if paired else None,
            )
        )
    return rows


def _call(predictor: Predictor, inputs: Tensors | Sequence[Any]) -> Callable[[], object]:
    """Return a call that answers one sample: the first tensors, or the next item in turn."""
    if isinstance(inputs, Mapping):
        one = {key: array[:1] for key, array in inputs.items()}
        return lambda: predictor.predict_tensors(one)
    turn = itertools.cycle(inputs)
    return lambda: predictor.predict(next(turn))


def _of_tensors(predictor: Predictor, tensors: Tensors, *, batch: int = 8) -> npt.NDArray[np.int64]:
    """Return the best class of every sample."""
    output = predictor.signature.outputs[0].name
    count = len(next(iter(tensors.values())))
    parts = []
    for start in range(0, count, batch):
        part = {name: array[start : start + batch] for name, array in tensors.items()}
        parts.append(predictor.run(part)[output].argmax(axis=1))
    return np.concatenate(parts)


def _of_items(predictor: Predictor, items: Any) -> npt.NDArray[np.int64]:
    """Return the best class of every item, each answered alone."""
    answers = (predictor.predict(item) for item in items)
    return np.array([list(row.scores).index(str(row.label)) for row in answers])
