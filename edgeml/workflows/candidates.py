"""A variant on its way to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature
from edgeml.core.timing import Latency
from edgeml.exporting.answers import Answers
from edgeml.exporting.trials import Trial
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.opening import open_runtime
from edgeml.tasks.samples import Samples


@dataclass(frozen=True, kw_only=True)
class LabelledSamples:
    """Prepared inputs of one split, and what is right.

    Attributes:
        inputs: The samples.
        targets: int64 ``(samples,)``; for multi-label models bool ``(samples, classes)``; None
            without labels.
    """

    inputs: Samples
    targets: npt.NDArray[Any] | None

    def right(self, answers: Answers) -> npt.NDArray[np.bool_]:
        """Return which of the first samples were answered rightly.

        For multi-label models that is with every label right.
        """
        assert self.targets is not None
        assert answers.probabilities is not None
        expected = self.targets[: len(answers)]
        if expected.ndim == 2:
            return np.asarray(((answers.probabilities >= 0.5) == expected).all(axis=1))
        return np.asarray(answers.probabilities.argmax(axis=1) == expected)


@dataclass(kw_only=True, eq=False)
class Candidate:
    """One variant on its way to a verdict; fields fill up as it is measured.

    Attributes:
        trial: How it is made and what runs it.
        name: Its name in the bundle.
        path: Its model; None where it could not be made.
        recipe: How it was made, for the manifest.
        broken: Why it cannot be used at all; its other fields then mean nothing.
        untried: Why it was not tried; likewise.
        failures: Proofs that it did not pass; each a sentence.
        evidence: What was measured, by name, as JSON values.
        answers: To the selection split, or to its beginning where that was enough.
        latency: Its latency beside fp32's.
        batch_safe: Whether an answer stays the same whatever its neighbours and padding.
    """

    trial: Trial
    name: str
    path: Path | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""
    untried: str = ""
    failures: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    answers: Answers | None = None
    latency: Latency | None = None
    batch_safe: bool = True

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int4``."""
        return self.trial.precision

    @property
    def usable(self) -> bool:
        """Whether it was tried and runs."""
        return not self.broken and not self.untried

    @property
    def size_bytes(self) -> int | None:
        """Size of its file."""
        return self.path.stat().st_size if self.path is not None else None

    def engine(self, signature: ModelSignature, *, num_threads: int) -> Engine:
        """Open this candidate's model in its engine."""
        assert self.path is not None
        return open_runtime(
            self.path,
            engine=self.trial.engine,
            settings=SessionSettings(num_threads=num_threads),
            signature=signature,
            served_by=f"{self.trial.engine}/cpu/{self.name}",
            options=self.trial.engine_options,
        )
