"""When a second model is asked as well: what each threshold of the first one's confidence gives.

Arrays in, points of a curve out. The first model answers every sample; the second one answers again
where the first one's confidence lies below a threshold. Choosing the best of many thresholds by the
same samples flatters it: thresholds are therefore tried in one fixed order, from "everything is
escalated" downwards, and the first one that is not proven ends the search. In such a sequence each
test may have the whole level (fixed-sequence testing; Angelopoulos et al. 2021, "Learn then Test:
Calibrating Predictive Algorithms to Achieve Risk Control", arXiv:2110.01052).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeml.core.paired import PairedAccuracy, compare_accuracy

_RESAMPLES = 2000
_Z_TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """Both models' answers to the same labelled samples.

    Attributes:
        confidence: float ``(samples,)``: of the first model in its own answer, from 0 to 1.
        first_right: bool ``(samples,)``: whether it was right.
        second_right: bool ``(samples,)``: whether the second model was.
    """

    confidence: npt.NDArray[np.float64]
    first_right: npt.NDArray[np.bool_]
    second_right: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = {self.confidence.shape, self.first_right.shape, self.second_right.shape}
        if len(shapes) != 1 or self.confidence.ndim != 1 or not self.confidence.size:
            raise ValueError(f"three non-empty vectors of one length were expected, got {shapes}")


@dataclass(frozen=True, kw_only=True)
class PairedTimes:
    """What one item costs each model, measured in turns.

    Attributes:
        confidence: float ``(items,)``: of the first model.
        first_ms: float ``(items,)``.
        second_ms: float ``(items,)``.
    """

    confidence: npt.NDArray[np.float64]
    first_ms: npt.NDArray[np.float64]
    second_ms: npt.NDArray[np.float64]

    def cascade_ms(self, threshold: float) -> npt.NDArray[np.float64]:
        """Return what each item takes where unsure ones are asked twice."""
        return self.first_ms + np.where(self.confidence < threshold, self.second_ms, 0.0)

    def compute_ratio(self, threshold: float, *, seed: int = 0) -> tuple[float, float, float]:
        """Return the second model's time over the cascade's, with a 95 % bootstrap interval."""
        cascade = self.cascade_ms(threshold)
        rng = np.random.default_rng(seed)
        picks = rng.integers(0, cascade.size, size=(_RESAMPLES, cascade.size))
        ratios = self.second_ms[picks].sum(axis=1) / cascade[picks].sum(axis=1)
        low, high = np.percentile(ratios, [2.5, 97.5])
        return float(self.second_ms.sum() / cascade.sum()), float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class EscalationPoint:
    """What one threshold gives.

    Attributes:
        threshold: The second model is asked where the first one's confidence is below it.
        share: Share of the samples that are escalated.
        share_low: Lower end of its 95 % interval (Wilson).
        share_high: Upper end.
        accuracy: Of the cascade, a fraction.
        paired: The cascade compared with the second model alone, on the same samples.
        mean_ms: Mean time of an item, by the paired times.
        p50_ms: Median.
        p90_ms: 90th percentile.
        cost: Of an item: that of the first model, and the second's times the share.
    """

    threshold: float
    share: float
    share_low: float
    share_high: float
    accuracy: float
    paired: PairedAccuracy
    mean_ms: float
    p50_ms: float
    p90_ms: float
    cost: float


def thresholds_of(confidence: npt.NDArray[np.float64], *, num_points: int = 101) -> list[float]:
    """Return thresholds that escalate everything to nothing, in steps of equal shares.

    They depend on confidences alone, not on who is right.

    Args:
        confidence: float ``(samples,)``.
        num_points: Shares, both ends included.

    Example:
        >>> thresholds_of(np.array([0.5, 0.7, 0.9]), num_points=4)
        [1.0, 0.9, 0.7, 0.0]
    """
    ordered = np.sort(confidence)
    places = np.round(np.linspace(1, 0, num_points) * ordered.size).astype(int)
    found = [1.0 if place == ordered.size else float(ordered[place]) for place in places[:-1]]
    return list(dict.fromkeys([*found, 0.0]))


def point_at(
    threshold: float, answers: JudgedAnswers, times: PairedTimes, *, costs: tuple[float, float]
) -> EscalationPoint:
    """Return what a threshold gives on these samples.

    Args:
        threshold: From 0, which escalates nothing, to 1.
        answers: Both models' answers.
        times: What an item costs each.
        costs: Of one item on the first and on the second model, in any unit.
    """
    escalated = answers.confidence < threshold
    right = np.where(escalated, answers.second_right, answers.first_right)
    share = float(escalated.mean())
    low, high = wilson_interval(int(escalated.sum()), escalated.size)
    cascade_ms = times.cascade_ms(threshold)
    p50, p90 = np.percentile(cascade_ms, [50, 90])
    return EscalationPoint(
        threshold=threshold,
        share=share,
        share_low=low,
        share_high=high,
        accuracy=float(right.mean()),
        paired=compare_accuracy(answers.second_right, right),
        mean_ms=float(cascade_ms.mean()),
        p50_ms=float(p50),
        p90_ms=float(p90),
        cost=costs[0] + share * costs[1],
    )


def within_drop(
    points: Sequence[EscalationPoint], max_drop: float, *, require_proof: bool = True
) -> EscalationPoint | None:
    """Return the cheapest point that is no worse than the second model by more than a limit.

    Args:
        points: From the highest threshold to the lowest.
        max_drop: Largest drop of accuracy, a fraction.
        require_proof: Whether the bound of the drop must be within the limit, for this point and
            for all above it; otherwise the drop itself.

    Returns:
        The last point before the first that fails; None where the first one fails.
    """
    found = None
    for point in points:
        measured = point.paired.upper_bound if require_proof else point.paired.drop
        # Fractions such as 2/1000 are not exact in binary.
        if measured > max_drop + 1e-12:
            break
        found = point
    return found


def within_share(points: Sequence[EscalationPoint], max_share: float) -> EscalationPoint:
    """Return the point that escalates as much as it may.

    Args:
        points: From the highest threshold to the lowest, which escalates nothing.
        max_share: Largest share of the samples.
    """
    return next(point for point in points if point.share <= max_share + 1e-12)


def wilson_interval(
    hits: float, count: float, *, z: float = _Z_TWO_SIDED_95
) -> tuple[float, float]:
    """Return Wilson's interval of a share (Wilson 1927, JASA 22:209-212).

    Args:
        hits: Of ``count``.
        count: At least 1.
        z: Normal quantile; the default gives 95 %, both sides together.

    Example:
        >>> low, high = wilson_interval(0, 100)
        >>> (round(low, 3), round(high, 3))
        (0.0, 0.037)
    """
    share, z2 = hits / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
