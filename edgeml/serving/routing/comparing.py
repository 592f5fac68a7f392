"""Two models' answers to the same items, added up: what a shadow sees, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeml.core.escalation import wilson_interval
from edgeml.core.paired import (
    Agreement,
    PairedAccuracy,
    compare_agreement,
    tango_upper_bound,
)
from edgeml.core.predictor import Prediction
from edgeml.serving.routing.health import Said
from edgeml.serving.routing.pairing import confidence_of

_RATIOS_KEPT = 4096
_Z_TWO_SIDED_95 = 1.959963984540054


@dataclass(kw_only=True)
class Tally:
    """What was compared so far. Not safe to use from several threads at once.

    Attributes:
        multi_label: Whether several labels may hold at once.
        compared: Items that both answered.
        flips: Of them, those with another best label or another set of labels.
        shift: Sum of the candidate's confidence less the stable model's.
        shift_squares: Sum of the squares.
        agreement: Their probabilities, compared; None of no item.
        judged: Items whose right label was fed back.
        lost: Of them, those that only the stable model answered rightly.
        gained: Those that only the candidate answered rightly.
        both_right: Those that both did.
        ratios: The candidate's time over the stable model's, of the last items.
    """

    multi_label: bool = False
    compared: int = 0
    flips: int = 0
    shift: float = 0.0
    shift_squares: float = 0.0
    agreement: Agreement | None = None
    judged: int = 0
    lost: int = 0
    gained: int = 0
    both_right: int = 0
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=_RATIOS_KEPT))

    def add(self, stable: Prediction, candidate: Prediction) -> tuple[Said, Said]:
        """Add both answers to one item, and return what they say.

        Raises:
            ValueError: They are about other labels, or about none.
        """
        names = list(stable.scores)
        if not names or names != list(candidate.scores):
            raise ValueError("the two answers are about different labels")
        said = self.said(stable), self.said(candidate)
        difference = said[1].confidence - said[0].confidence
        self.compared += 1
        self.flips += said[0].labels != said[1].labels
        self.shift += difference
        self.shift_squares += difference * difference
        rows = [np.array([list(row.scores.values())]) for row in (stable, candidate)]
        found = compare_agreement(*rows, multi_label=self.multi_label)
        self.agreement = found if self.agreement is None else self.agreement.joined(found)
        return said

    def said(self, answer: Prediction) -> Said:
        """Return what an answer says."""
        labels = answer.labels if self.multi_label else (str(answer.label),)
        confidence = confidence_of(answer, multi_label=self.multi_label)
        return Said(labels=frozenset(labels), confidence=confidence)

    def judge(self, *, stable_right: bool, candidate_right: bool) -> None:
        """Add who was right about one item whose label is known."""
        self.judged += 1
        self.lost += stable_right and not candidate_right
        self.gained += candidate_right and not stable_right
        self.both_right += stable_right and candidate_right

    @property
    def paired(self) -> PairedAccuracy | None:
        """Right and wrong, where labels were fed back; None where none were."""
        count = self.judged
        if not count:
            return None
        return PairedAccuracy(
            num_samples=count,
            reference=(self.both_right + self.lost) / count,
            candidate=(self.both_right + self.gained) / count,
            lost=self.lost,
            gained=self.gained,
            drop=(self.lost - self.gained) / count,
            upper_bound=tango_upper_bound(self.lost, self.gained, count),
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CanaryReport:
    """What a canary or a shadow has seen.

    Attributes:
        share: Share of the keys that the candidate answers now.
        stopped: Why it was stopped; None where it was not.
        stable_answers: Items that the stable model answered.
        candidate_answers: Items that the candidate answered.
        candidate_failures: Items that the candidate failed and the stable model answered.
        compared: Items that both answered.
        dropped: Comparisons that found no room.
        flips: Share of the compared items with another label (Wilson's interval).
        confidence_shift: Mean of the candidate's confidence less the stable model's.
        latency_ratio: Median of the candidate's time over the stable model's, item by item, of the
            last items.
        accuracy: Right and wrong answers where labels were fed back.
        agreement: The probabilities compared.
        evidence: Each watch's evidence against the candidate; ``stop_at`` ends it.
        stop_at: See ``evidence``.
    """

    share: float
    stopped: str | None
    stable_answers: int
    candidate_answers: int
    candidate_failures: int
    compared: int
    dropped: int
    flips: Estimate | None
    confidence_shift: Estimate | None
    latency_ratio: Estimate | None
    accuracy: PairedAccuracy | None
    agreement: Agreement | None
    evidence: dict[str, float]
    stop_at: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def flips_of(tally: Tally) -> Estimate | None:
    """Return the share of flips with Wilson's interval; None of no item."""
    if not tally.compared:
        return None
    low, high = wilson_interval(tally.flips, tally.compared)
    return Estimate(value=tally.flips / tally.compared, low=low, high=high)


def confidence_shift_of(tally: Tally) -> Estimate | None:
    """Return the mean shift with a normal interval; None of less than two items."""
    count = tally.compared
    if count < 2:
        return None
    mean = tally.shift / count
    variance = max(tally.shift_squares - count * mean * mean, 0.0) / (count - 1)
    half = _Z_TWO_SIDED_95 * math.sqrt(variance / count)
    return Estimate(value=mean, low=mean - half, high=mean + half)


def median_of(values: Sequence[float]) -> Estimate | None:
    """Return the median with its interval by ranks, which assumes no distribution; None of none."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return None
    half = _Z_TWO_SIDED_95 * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - half), math.ceil(count / 2 + half)
    return Estimate(
        value=float(np.median(ordered)),
        low=ordered[max(low - 1, 0)],
        high=ordered[min(high, count - 1)],
    )
