"""The seam of the library: an engine runs tensors, a predictor answers items.

An :class:`Engine` is what differs between in-process, server and fake. A :class:`Predictor` is
what users and benchmarks see; ``edgeml.tasks.predictor`` builds it from a task and an engine, so
that pre- and post-processing are the same code wherever the model runs. Protocols, not base
classes: an implementation of somebody else's needs nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload, runtime_checkable

import numpy.typing as npt

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import EdgemlError


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One answer.

    Attributes:
        label: The best label; None for the task ``tensor``.
        score: Its probability.
        scores: Every label's probability.
        labels: The labels above the threshold, for multi-label models.
        truncated: Whether the input was cut to fit the model.
        served_by: Engine, device, precision and version that answered.
        outputs: The raw outputs of one sample, for the task ``tensor``.
    """

    label: str | None = None
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    truncated: bool = False
    served_by: str = ""
    outputs: Mapping[str, npt.NDArray[Any]] | None = None


@runtime_checkable
class Engine(Protocol):
    """Runs preprocessed tensors. Safe to call from several threads."""

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        ...

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version, such as ``onnxruntime/cpu/int8/1``."""
        ...

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return every output for a checked feed, batch first."""
        ...

    def close(self) -> None:
        """Release what the engine holds; a second call does nothing."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Answers items. Safe to call from several threads; a context manager that closes."""

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model."""
        ...

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        ...

    def predict(self, item: Any) -> Prediction:
        """Answer one item."""
        ...

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

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors, batch first."""
        ...

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors, batch first."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
