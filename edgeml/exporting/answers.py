"""What a model answers to many samples, whatever its outputs: class scores, other values, or both.

A classifier's outputs become probabilities, so that answers can be right or wrong and flips can be
counted. Every other output is kept sample by sample, since sizes may differ, and is compared by its
error relative to its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edgeml.core.paired import Agreement, compare_agreement
from edgeml.core.predictor import Engine
from edgeml.core.signature import Tensors
from edgeml.tasks.samples import Samples

# How an output becomes probabilities. "binary" forms have one column: the probability, or the
# logit, of the second of two classes. "sigmoid" and "independent" scores do not exclude each other.
Form = Literal["probabilities", "softmax", "independent", "sigmoid", "binary", "binary-sigmoid"]
# Stands for an infinite difference: it is stored as JSON, which has no infinity.
UNBOUNDED = 1e30


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How outputs are read.

    Attributes:
        scores: Name of the output that holds class scores; empty where none does.
        form: How that output becomes probabilities.
        values: Names of the other outputs.
    """

    scores: str = "probabilities"
    form: Form = "probabilities"
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"unknown form {self.form!r}; known: {', '.join(get_args(Form))}")
        if not self.scores and not self.values:
            raise ValueError("no output is read; at least one was expected")

    @property
    def multi_label(self) -> bool:
        """Whether several classes may hold at once."""
        return self.form in ("independent", "sigmoid")

    def to_json(self) -> dict[str, Any]:
        """Return the reading as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reading:
        """Read what :meth:`to_json` wrote."""
        return cls(scores=value["scores"], form=value["form"], values=tuple(value["values"]))

    def probabilities(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn class scores into probabilities, float32 ``(batch, classes)``."""
        if self.form in ("probabilities", "independent"):
            return np.asarray(raw, dtype=np.float32)
        scores = raw.astype(np.float64)
        if self.form == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
        if self.form != "binary":
            scores = 0.5 * (1 + np.tanh(0.5 * scores))  # the logistic function, without overflow
        if self.form != "sigmoid":
            second = scores.reshape(len(scores), 1)
            scores = np.concatenate([1 - second, second], axis=1)
        return np.asarray(scores, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's answers.

    Attributes:
        probabilities: float32 ``(samples, classes)``, or None for a model without class scores.
        values: Output name to one array a sample, without a batch axis.
    """

    probabilities: npt.NDArray[np.float32] | None = None
    values: Mapping[str, Sequence[npt.NDArray[Any]]] = field(default_factory=dict)

    def __len__(self) -> int:
        if self.probabilities is not None:
            return len(self.probabilities)
        return len(next(iter(self.values.values())))

    def first(self, count: int) -> Answers:
        """Return the answers to the first few samples."""
        return Answers(
            probabilities=None if self.probabilities is None else self.probabilities[:count],
            values={name: rows[:count] for name, rows in self.values.items()},
        )

    def joined(self, more: Answers) -> Answers:
        """Return these answers and more."""
        probabilities = None
        if self.probabilities is not None and more.probabilities is not None:
            probabilities = np.concatenate([self.probabilities, more.probabilities])
        values = {name: [*rows, *more.values[name]] for name, rows in self.values.items()}
        return Answers(probabilities=probabilities, values=values)

    @property
    def finite(self) -> bool:
        """Whether no answer holds NaN or infinity."""
        arrays = [row for rows in self.values.values() for row in rows]
        if self.probabilities is not None:
            arrays.append(self.probabilities)
        return all(array.dtype.kind not in "f" or np.isfinite(array).all() for array in arrays)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays that can be stored."""
        stored: dict[str, npt.NDArray[Any]] = {"order": np.array(sorted(self.values), dtype=str)}
        if self.probabilities is not None:
            stored["probabilities"] = self.probabilities
        for number, name in enumerate(sorted(self.values)):
            rows = self.values[name]
            stored[f"shapes_{number}"] = np.array([row.shape for row in rows], dtype=np.int64)
            stored[f"flat_{number}"] = np.concatenate([np.ravel(row) for row in rows])
        return stored

    @classmethod
    def from_arrays(cls, stored: Mapping[str, npt.NDArray[Any]]) -> Answers:
        """Read what :meth:`to_arrays` gave."""
        values: dict[str, list[npt.NDArray[Any]]] = {}
        for number, name in enumerate(stored["order"].tolist()):
            shapes, flat = stored[f"shapes_{number}"], stored[f"flat_{number}"]
            ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64))
            parts = np.split(flat, ends[:-1])
            values[name] = [
                part.reshape(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)
            ]
        probabilities = stored.get("probabilities")
        return cls(probabilities=probabilities, values=values)


def collect_answers(
    engine: Engine, samples: Samples, reading: Reading, *, batch: int | None = None
) -> Answers:
    """Run samples through a model and read its outputs.

    Args:
        engine: The model.
        samples: Preprocessed inputs.
        reading: How its outputs are read.
        batch: Samples of one feed, in their order; None groups them as runs well.

    Returns:
        The answers, in the order of the samples.
    """
    count = len(samples)
    scores: npt.NDArray[np.float32] | None = None
    values: dict[str, list[Any]] = {name: [None] * count for name in reading.values}
    for group in samples.groups() if batch is None else _runs(count, batch):
        outputs = engine.run(samples.feed(group))
        if reading.scores:
            part = reading.probabilities(outputs[reading.scores])
            if scores is None:
                scores = np.empty((count, part.shape[1]), dtype=np.float32)
            scores[group] = part
        for name, rows in values.items():
            for place, row in zip(group, outputs[name], strict=True):
                rows[place] = np.asarray(row)
    return Answers(probabilities=scores, values=values)


def read_outputs(outputs: Tensors, reading: Reading) -> Answers:
    """Read the outputs of one feed."""
    scores = reading.probabilities(outputs[reading.scores]) if reading.scores else None
    return Answers(
        probabilities=scores, values={name: list(outputs[name]) for name in reading.values}
    )


def compare_answers(reference: Answers, candidate: Answers, reading: Reading) -> Agreement:
    """Compare answers without labels: flips and divergence of classes, relative error of values."""
    error = max(
        (relative_error(rows, candidate.values[name]) for name, rows in reference.values.items()),
        default=0.0,
    )
    if reference.probabilities is None or candidate.probabilities is None:
        return Agreement(
            num_samples=len(reference),
            flips=0.0,
            mean_kl=0.0,
            max_difference=0.0,
            relative_error=error,
        )
    agreement = compare_agreement(
        reference.probabilities, candidate.probabilities, multi_label=reading.multi_label
    )
    return Agreement(**{**asdict(agreement), "relative_error": error})


def relative_error(
    reference: Sequence[npt.NDArray[Any]], candidate: Sequence[npt.NDArray[Any]]
) -> float:
    """Return the root of the squared errors' sum over that of the squared references'.

    Arrays of other sizes, and references of nothing but zeros, err without bound unless equal.
    """
    errors = size = 0.0
    for ours, theirs in zip(reference, candidate, strict=True):
        if ours.shape != theirs.shape:
            return UNBOUNDED
        exact = ours.astype(np.float64)
        errors += float(np.square(exact - theirs.astype(np.float64)).sum())
        size += float(np.square(exact).sum())
    if not np.isfinite(errors):
        return UNBOUNDED
    if size == 0.0:
        return 0.0 if errors == 0.0 else UNBOUNDED
    return min(UNBOUNDED, float(np.sqrt(errors / size)))


def largest_differences(reference: Answers, candidate: Answers) -> npt.NDArray[np.float64]:
    """Return each sample's largest difference; NaN counts as :data:`UNBOUNDED`.

    Probabilities differ by what they differ; other values relative to the largest of their output,
    from 1 up.

    Returns:
        float64 ``(samples,)``.
    """
    worst = np.zeros(len(reference))
    if reference.probabilities is not None and candidate.probabilities is not None:
        apart = np.abs(reference.probabilities.astype(np.float64) - candidate.probabilities)
        worst = _bounded(apart).max(axis=1)
    for name, rows in reference.values.items():
        size = max([1.0, *(float(np.abs(row).max()) for row in rows if row.size)])
        for place, (ours, theirs) in enumerate(zip(rows, candidate.values[name], strict=True)):
            worst[place] = max(worst[place], _apart(ours, theirs) / size)
    return worst


def _apart(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    if ours.shape != theirs.shape:
        return UNBOUNDED
    if not ours.size:
        return 0.0
    return float(_bounded(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))).max())


def _bounded(apart: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.minimum(np.nan_to_num(apart, nan=UNBOUNDED), UNBOUNDED)


def _runs(count: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]
