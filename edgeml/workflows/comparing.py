"""``edgeml.compare``: several deployments of one model, same tensors, same clock, taking turns."""

from __future__ import annotations

from collections.abc import Mapping
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
    tensors: Tensors,
    *,
    baseline: str,
    labels: npt.NDArray[np.int64] | None = None,
    plan: TimingPlan | None = None,
) -> list[Comparison]:
    """Compare classifiers behind any engine on latency and, with labels, on accuracy.

    The first sample is timed through ``predict_tensors``, batch 1. Equal thread counts are the
    caller's to arrange: they belong to how each predictor was opened.

    Args:
        predictors: Name to predictor.
        tensors: Preprocessed samples, batch first.
        baseline: Name of the one that ratios refer to.
        labels: int64 ``(samples,)``: the right class of each sample.
        plan: How much to time.

    Raises:
        InputError: The baseline is unknown, or the labels do not fit the samples.
        SignatureError: The tensors do not fit the models.
    """
    if baseline not in predictors:
        names = ", ".join(predictors)
        raise InputError(f"the baseline '{baseline}' is none of {names}; name one of them")
    num_samples = len(next(iter(tensors.values())))
    if labels is not None and len(labels) != num_samples:
        raise InputError(f"{len(labels)} labels were given for {num_samples} samples; one each")
    right: dict[str, npt.NDArray[np.bool_]] = {}
    if labels is not None:
        right = {name: _answers(row, tensors) == labels for name, row in predictors.items()}
    one = {name: array[:1] for name, array in tensors.items()}
    calls = {
        name: (lambda predictor=predictor: predictor.predict_tensors(one))
        for name, predictor in predictors.items()
    }
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


def _answers(predictor: Predictor, tensors: Tensors, *, batch: int = 8) -> npt.NDArray[np.int64]:
    """Return the best class of every sample."""
    output = predictor.signature.outputs[0].name
    count = len(next(iter(tensors.values())))
    parts = []
    for start in range(0, count, batch):
        part = {name: array[start : start + batch] for name, array in tensors.items()}
        parts.append(predictor.run(part)[output].argmax(axis=1))
    return np.concatenate(parts)
