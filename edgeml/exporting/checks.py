"""What every variant must show before its speed counts: parity with its source, invariance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Engine
from edgeml.exporting.answers import Answers, Reading, collect_answers, largest_differences
from edgeml.tasks.samples import Samples

# One table, a reason each. Differences of probabilities, or of values relative to the largest,
# between a variant and its source. Precisions that are not listed are judged by the gate instead.
PARITY_TOLERANCE = {
    "fp32": 1e-4,  # the same arithmetic in another order of additions
    "fp16": 0.05,  # eleven bits of mantissa through some fifty layers
}
NO_TOLERANCE = 1.0
# A neighbour may change the blocking of a float sum, never an integer one.
INVARIANCE_TOLERANCE = 1e-4
# Between the integer products of a transformer lie float sums; where their last bit meets the edge
# of a quantization step, the step moves, and the answer by about a thousandth.
INVARIANCE_TOLERANCE_MIXED = 0.01
# Below this distance between fp32's two best classes either answer is as good.
UNSURE_MARGIN = 1e-3
# Replaying golden examples on another machine: other kernels, other orders of additions and
# roundings.
GOLDEN_TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05, "int8": 0.05, "int4": 0.05}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Answers of a variant against those of its source.

    Attributes:
        max_abs_diff: Largest difference found.
        mean_abs_diff: Mean of the samples' largest differences.
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


def check_parity(reference: Answers, candidate: Answers, *, tolerance: float) -> Parity:
    """Compare a variant's answers with its source's."""
    worst = largest_differences(reference, candidate)
    ours, theirs = reference.probabilities, candidate.probabilities
    flips = 0
    if ours is not None and theirs is not None:
        flips = int(np.sum(ours.argmax(axis=1) != theirs.argmax(axis=1)))
    return Parity(
        max_abs_diff=float(worst.max()),
        mean_abs_diff=float(worst.mean()),
        sample=int(worst.argmax()),
        flips=flips,
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
    reading: Reading,
    *,
    batch_sizes: tuple[int, ...] = (3, 8),
    padded: Samples | None = None,
    tolerance: float = INVARIANCE_TOLERANCE,
    unsure: npt.NDArray[np.bool_] | None = None,
) -> Invariance:
    """Run samples one at a time, in batches, and padded.

    Args:
        engine: The model.
        samples: Preprocessed inputs.
        reading: How its outputs are read.
        batch_sizes: Sizes to try; they differ from the size that the model was traced with.
        padded: The same samples with more padding, where there is such a thing.
        tolerance: Largest difference of an answer that is allowed.
        unsure: bool ``(samples,)``: where fp32's two best classes are so close that a flip does
            not count; None counts all.
    """
    alone = collect_answers(engine, samples, reading, batch=1)
    others = [collect_answers(engine, samples, reading, batch=size) for size in batch_sizes]
    if padded is not None:
        others.append(collect_answers(engine, padded, reading, batch=1))
    sure = np.ones(len(alone), dtype=bool) if unsure is None else ~unsure
    return Invariance(
        max_abs_diff=max(
            (float(largest_differences(alone, other).max()) for other in others), default=0.0
        ),
        flips=max((_flips(alone, other, sure) for other in others), default=0),
        batch_sizes=batch_sizes,
        padded=padded is not None,
        tolerance=tolerance,
    )


def _flips(alone: Answers, other: Answers, sure: npt.NDArray[np.bool_]) -> int:
    if alone.probabilities is None or other.probabilities is None:
        return 0
    flipped = alone.probabilities.argmax(axis=1) != other.probabilities.argmax(axis=1)
    return int((flipped & sure).sum())


def find_unsure(answers: Answers) -> npt.NDArray[np.bool_]:
    """Return where the two best classes are so close that either is right."""
    if answers.probabilities is None:
        return np.zeros(len(answers), dtype=bool)
    best = np.sort(answers.probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] < UNSURE_MARGIN)
