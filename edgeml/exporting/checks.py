"""What every variant must show before its speed counts: parity with its source, invariance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Engine

_BATCH = 32

# One table, a reason each. Differences of probabilities between a variant and the torch module.
PARITY_TOLERANCE = {
    "fp32": 1e-4,  # the same arithmetic in another order of additions
    "fp16": 0.05,  # eleven bits of mantissa through some fifty layers
    "int8": 1.0,  # judged by the gate on labels or agreement instead: single samples may move far
}
# A neighbour may change the blocking of a float sum, never an integer one.
INVARIANCE_TOLERANCE = 1e-4
# Replaying golden examples on another machine: other kernels, other orders of additions and
# roundings.
GOLDEN_TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.05}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Probabilities of a variant against those of its source.

    Attributes:
        max_abs_diff: Largest difference found.
        mean_abs_diff: Mean difference.
        sample: Index of the sample with the largest difference.
        flips: Samples whose best class differs.
        tolerance: Largest difference allowed.
    """

    max_abs_diff: float
    mean_abs_diff: float
    sample: int
    flips: int
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the largest difference is allowed; NaN is not."""
        return self.max_abs_diff <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def check_parity(
    reference: npt.NDArray[Any], candidate: npt.NDArray[Any], *, tolerance: float
) -> Parity:
    """Compare probabilities, float ``(samples, classes)`` each."""
    differences = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
    worst = np.nan_to_num(differences, nan=np.inf).max(axis=1)
    return Parity(
        max_abs_diff=float(worst.max()),
        mean_abs_diff=float(differences.mean()),
        sample=int(worst.argmax()),
        flips=int(np.sum(reference.argmax(axis=1) != candidate.argmax(axis=1))),
        tolerance=tolerance,
    )


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """The same samples alone and among neighbours.

    Attributes:
        max_abs_diff: Largest difference of a probability.
        flips: Samples whose best class differs.
        batch_sizes: Sizes that were tried against one at a time.
    """

    max_abs_diff: float
    flips: int
    batch_sizes: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether an answer does not depend on its neighbours."""
        return self.flips == 0 and self.max_abs_diff <= INVARIANCE_TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the verdict as JSON values."""
        return {**asdict(self), "ok": self.ok}


def check_invariance(
    engine: Engine, samples: npt.NDArray[Any], *, batch_sizes: tuple[int, ...] = (3, 8)
) -> Invariance:
    """Run samples one at a time and in batches.

    Args:
        engine: A classifier with one input and one output.
        samples: Preprocessed inputs, batch first.
        batch_sizes: Sizes to try; they differ from the size that the model was traced with.
    """
    alone = run_batches(engine, samples, batch=1)
    largest, flips = 0.0, 0
    for size in batch_sizes:
        together = run_batches(engine, samples, batch=size)
        largest = max(largest, float(np.abs(alone - together).max()))
        flips = max(flips, int(np.sum(alone.argmax(axis=1) != together.argmax(axis=1))))
    return Invariance(max_abs_diff=largest, flips=flips, batch_sizes=batch_sizes)


def run_batches(
    engine: Engine, samples: npt.NDArray[Any], *, batch: int = _BATCH
) -> npt.NDArray[Any]:
    """Return a single-output engine's answers to all samples, float ``(samples, classes)``."""
    name = engine.signature.inputs[0].name
    output = engine.signature.outputs[0].name
    parts = [
        engine.run({name: samples[start : start + batch]})[output]
        for start in range(0, len(samples), batch)
    ]
    return np.concatenate(parts)
