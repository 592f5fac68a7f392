"""Paired statistics: is a candidate's accuracy no worse than the reference's, on the same samples?

The bound is Tango's score interval for a difference of paired proportions (Tango 1998, Statistics
in Medicine 17:891-908): unlike Wald's it keeps its coverage when flips are few, which is the usual
case here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Z_ONE_SIDED_95 = 1.6448536269514722
_MAX_SAMPLES = 10_000_000
# Rows of many classes are worked on a few at a time, for the memory's sake.
_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class PairedAccuracy:
    """Two models' answers to the same labelled samples, compared.

    Attributes:
        num_samples: Samples compared.
        reference: Accuracy of the reference, a fraction.
        candidate: Accuracy of the candidate, a fraction.
        lost: Samples that only the reference answered rightly.
        gained: Samples that only the candidate answered rightly.
        drop: Net drop of accuracy, a fraction; negative when the candidate is better.
        upper_bound: One-sided 95 % upper bound of the drop (Tango).
    """

    num_samples: int
    reference: float
    candidate: float
    lost: int
    gained: int
    drop: float
    upper_bound: float

    def joined(self, more: PairedAccuracy) -> PairedAccuracy:
        """Return the comparison on these samples and on others together."""
        count, lost, gained = (
            self.num_samples + more.num_samples,
            self.lost + more.lost,
            self.gained + more.gained,
        )
        share = self.num_samples / count
        return PairedAccuracy(
            num_samples=count,
            reference=share * self.reference + (1 - share) * more.reference,
            candidate=share * self.candidate + (1 - share) * more.candidate,
            lost=lost,
            gained=gained,
            drop=(lost - gained) / count,
            upper_bound=tango_upper_bound(lost, gained, count),
        )

    def proven(self, max_drop: float) -> bool:
        """Return whether the bound itself, not only the observed drop, is within the limit."""
        return self.upper_bound <= max_drop

    def samples_needed(self, max_drop: float, *, z: float = _Z_ONE_SIDED_95) -> int | None:
        """Return how many samples would prove the limit if flips stay as frequent as here.

        Args:
            max_drop: The limit, a fraction.
            z: Normal quantile of the bound.

        Returns:
            A number of samples, or None where the observed drop is not below the limit.
        """
        if self.drop >= max_drop:
            return None
        lost, gained = self.lost / self.num_samples, self.gained / self.num_samples

        def enough(count: int) -> bool:
            return tango_upper_bound(lost * count, gained * count, count, z=z) <= max_drop

        high = 2
        while not enough(high):
            high *= 2
            if high > _MAX_SAMPLES:
                return None
        return _smallest(enough, low=high // 2, high=high)


def compare_accuracy(
    reference_right: npt.NDArray[np.bool_], candidate_right: npt.NDArray[np.bool_]
) -> PairedAccuracy:
    """Compare two vectors of right and wrong answers to the same samples.

    Args:
        reference_right: bool ``(samples,)``.
        candidate_right: bool ``(samples,)``.

    Raises:
        ValueError: The vectors are empty or of different lengths.

    Example:
        >>> right = np.array([True] * 98 + [False] * 2)
        >>> compare_accuracy(right, right).drop
        0.0
    """
    if reference_right.shape != candidate_right.shape or reference_right.size == 0:
        shapes = f"{reference_right.shape} and {candidate_right.shape}"
        raise ValueError(f"two non-empty vectors of one length were expected, got {shapes}")
    count = int(reference_right.size)
    lost = int(np.sum(reference_right & ~candidate_right))
    gained = int(np.sum(~reference_right & candidate_right))
    return PairedAccuracy(
        num_samples=count,
        reference=float(reference_right.mean()),
        candidate=float(candidate_right.mean()),
        lost=lost,
        gained=gained,
        drop=(lost - gained) / count,
        upper_bound=tango_upper_bound(lost, gained, count),
    )


def tango_upper_bound(
    lost: float, gained: float, count: int, *, z: float = _Z_ONE_SIDED_95
) -> float:
    """Return the upper score bound of ``(lost - gained) / count``.

    Args:
        lost: Discordant pairs against the candidate; may be fractional for planning.
        gained: Discordant pairs for the candidate.
        count: All pairs.
        z: Normal quantile; the default gives a one-sided 95 % bound.
    """
    low, high = (lost - gained) / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _score(lost, gained, count, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _score(lost: float, gained: float, count: int, difference: float) -> float:
    """Tango's score statistic; the constrained estimate is the root of a quadratic."""
    a = 2 * count
    b = -lost - gained + (2 * count - lost + gained) * difference
    c = -gained * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = count * (2 * share + difference * (1 - difference))
    gap = lost - gained - count * difference
    if variance <= 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two models' probabilities for the same samples, compared without labels.

    Attributes:
        num_samples: Samples compared.
        flips: Share of samples whose best class, or set of labels, differs.
        mean_kl: Mean divergence of the candidate from the reference, in nats.
        max_difference: Largest difference between two probabilities.
        relative_error: Error of outputs that are no class scores, relative to their size.
    """

    num_samples: int
    flips: float
    mean_kl: float
    max_difference: float
    relative_error: float = 0.0

    def joined(self, more: Agreement) -> Agreement:
        """Return the agreement on these samples and on others together.

        Of relative errors the larger is taken: the sizes that they are relative to are not known.
        """
        count = self.num_samples + more.num_samples
        share = self.num_samples / count
        return Agreement(
            num_samples=count,
            flips=share * self.flips + (1 - share) * more.flips,
            mean_kl=share * self.mean_kl + (1 - share) * more.mean_kl,
            max_difference=max(self.max_difference, more.max_difference),
            relative_error=max(self.relative_error, more.relative_error),
        )


def compare_agreement(
    reference: npt.NDArray[Any], candidate: npt.NDArray[Any], *, multi_label: bool = False
) -> Agreement:
    """Compare probabilities, float ``(samples, classes)`` each.

    Args:
        reference: The reference's.
        candidate: The candidate's.
        multi_label: Whether each class has a probability of its own: the answer is then the set of
            labels from one half on, and the divergences of the classes are added.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.size == 0:
        shapes = f"{reference.shape} and {candidate.shape}"
        raise ValueError(f"two arrays (samples, classes) were expected, got {shapes}")
    step = max(1, _CELLS_AT_ONCE // reference.shape[1])
    starts = range(0, len(reference), step)
    parts = [
        _compare_rows(reference[at : at + step], candidate[at : at + step], multi_label=multi_label)
        for at in starts
    ]
    flipped, divergence, apart = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    return Agreement(
        num_samples=len(reference),
        flips=float(np.mean(flipped)),
        mean_kl=float(np.mean(divergence)),
        max_difference=float(np.max(apart)),
    )


def _compare_rows(
    reference: npt.NDArray[Any], candidate: npt.NDArray[Any], *, multi_label: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return of each sample whether it flipped, its divergence, and its largest difference."""
    p = np.clip(reference.astype(np.float64), 1e-12, 1.0)
    q = np.clip(candidate.astype(np.float64), 1e-12, 1.0)
    divergence = p * (np.log(p) - np.log(q))
    if multi_label:
        flipped = ((reference >= 0.5) != (candidate >= 0.5)).any(axis=1)
        not_p, not_q = np.clip(1 - p, 1e-12, 1.0), np.clip(1 - q, 1e-12, 1.0)
        divergence = divergence + not_p * (np.log(not_p) - np.log(not_q))
    else:
        flipped = reference.argmax(axis=1) != candidate.argmax(axis=1)
    return flipped, np.sum(divergence, axis=1), np.max(np.abs(p - q), axis=1)


def _smallest(holds: Callable[[int], bool], *, low: int, high: int) -> int:
    """Bisect for the smallest count that holds, given that ``high`` does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
