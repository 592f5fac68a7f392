"""What every variant must show before its speed counts: parity with its source, invariance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Engine
from edgeml.tasks.samples import Samples

# One table, a reason each. Differences of probabilities between a variant and the torch module.
PARITY_TOLERANCE = {
    "fp32": 1e-4,  # the same arithmetic in another order of additions
    "fp16": 0.05,  # eleven bits of mantissa through some fifty layers
    "int8": 1.0,  # judged by the gate on labels or agreement instead: single samples may move far
}
# A neighbour may change the blocking of a float sum, never an integer one.
INVARIANCE_TOLERANCE = 1e-4
# Between the integer products of a transformer lie float sums; where their last bit meets the edge
# of a quantization step, the step moves, and the answer by about a thousandth.
INVARIANCE_TOLERANCE_MIXED = 0.01
# Below this distance between fp32's two best classes either answer is as good.
UNSURE_MARGIN = 1e-3
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
    """The same samples alone, among neighbours, and padded.

    Attributes:
        max_abs_diff: Largest difference of a probability.
        flips: Samples whose best class differs, but for those of which fp32 is unsure.
        batch_sizes: Sizes that were tried against one at a time.
        padded: Whether padding was tried.
        tolerance: Largest difference allowed.
    """

    max_abs_diff: float
    flips: int
    batch_sizes: tuple[int, ...]
    padded: bool = False
    tolerance: float = INVARIANCE_TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether an answer does not depend on its neighbours."""
        return self.flips == 0 and self.max_abs_diff <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the verdict as JSON values."""
        return {**asdict(self), "ok": self.ok}


def check_invariance(
    engine: Engine,
    samples: Samples,
    *,
    batch_sizes: tuple[int, ...] = (3, 8),
    padded: Samples | None = None,
    tolerance: float = INVARIANCE_TOLERANCE,
    unsure: npt.NDArray[np.bool_] | None = None,
) -> Invariance:
    """Run samples one at a time, in batches, and padded.

    Args:
        engine: A classifier with one output.
        samples: Preprocessed inputs.
        batch_sizes: Sizes to try; they differ from the size that the model was traced with.
        padded: The same samples with more padding, where there is such a thing.
        tolerance: Largest difference of a probability that is allowed.
        unsure: bool ``(samples,)``: where fp32's two best classes are so close that a flip does
            not count; None counts all.
    """
    alone = run_batches(engine, samples, batch=1)
    others = [run_batches(engine, samples, batch=size) for size in batch_sizes]
    if padded is not None:
        others.append(run_batches(engine, padded, batch=1))
    sure = np.ones(len(alone), dtype=bool) if unsure is None else ~unsure
    flipped = [(alone.argmax(axis=1) != other.argmax(axis=1)) & sure for other in others]
    return Invariance(
        max_abs_diff=max(float(np.abs(alone - other).max()) for other in others),
        flips=max(int(rows.sum()) for rows in flipped),
        batch_sizes=batch_sizes,
        padded=padded is not None,
        tolerance=tolerance,
    )


def run_batches(
    engine: Engine, samples: Samples, *, batch: int | None = None
) -> npt.NDArray[np.float32]:
    """Return a single-output engine's answers to all samples.

    Args:
        engine: A classifier with one output.
        samples: Preprocessed inputs.
        batch: Samples of one feed, in their order; None groups them as runs well.

    Returns:
        float32 ``(samples, classes)``, in the order of the samples.
    """
    output = engine.signature.outputs[0]
    groups = (
        samples.groups()
        if batch is None
        else [
            list(range(start, min(start + batch, len(samples))))
            for start in range(0, len(samples), batch)
        ]
    )
    answers: npt.NDArray[np.float32] | None = None
    for group in groups:
        part = engine.run(samples.feed(group))[output.name]
        if answers is None:
            answers = np.empty((len(samples), *part.shape[1:]), dtype=part.dtype)
        answers[group] = part
    assert answers is not None
    return answers
