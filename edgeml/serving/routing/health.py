"""Is a candidate fit to answer? Five watches that may be looked at after every call.

Each looks at differences on the same item: what the candidate did, and what the stable model did
with it. So neither a bad hour of the server nor one busy user's odd items count against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from edgeml.core.anytime import ExcessCount, excess_evidence, mean_shift_evidence
from edgeml.errors import InputError

WATCHES = ("errors", "latency", "flips", "confidence", "labels")


@dataclass(frozen=True, kw_only=True)
class CanarySettings:
    """When a candidate is stopped, and what it may cost.

    Attributes:
        max_error_excess: Largest share of calls that the candidate fails and the stable model
            answers.
        max_latency_ratio: Largest median of the candidate's time over the stable model's, on the
            same item.
        min_latency_excess_ms: Differences smaller than this are never held against it: a copy in
            the background waits for locks and caches that the answer itself did not.
        max_flips: Largest share of items whose best label differs.
        max_confidence_shift: Largest shift of the mean confidence, up or down.
        max_label_shift: Largest shift of any label's share, up or down.
        false_stop: Chance that a candidate within all limits is ever stopped, however long and
            often one looks.
        candidate_timeout_s: Time that a call gives the candidate before the stable model is asked;
            never more than half of a caller's deadline. A model in this process is not interrupted.
        queue_size: Comparisons that may wait; more are dropped and counted.
        salt: Of the keys' hash; None derives it from the candidate, so that each has other keys.
        seed: Of the draw of what is compared.
    """

    max_error_excess: float = 0.01
    max_latency_ratio: float = 1.5
    min_latency_excess_ms: float = 1.0
    max_flips: float = 0.2
    max_confidence_shift: float = 0.1
    max_label_shift: float = 0.1
    false_stop: float = 0.01
    candidate_timeout_s: float = 1.0
    queue_size: int = 64
    salt: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.startswith("max_") and item.name != "max_latency_ratio":
                _check(item.name, value, 0 <= value < 1, "a fraction from 0 to below 1")
        _check("false_stop", self.false_stop, 0 < self.false_stop < 1, "a chance above 0, below 1")
        ratio = self.max_latency_ratio
        _check("max_latency_ratio", ratio, 0 < ratio < math.inf, "a positive, finite ratio")
        excess = self.min_latency_excess_ms
        _check("min_latency_excess_ms", excess, 0 <= excess < math.inf, "a finite time from 0 up")
        wait = self.candidate_timeout_s
        _check("candidate_timeout_s", wait, 0 < wait < math.inf, "a positive, finite time")
        _check("queue_size", self.queue_size, self.queue_size >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an answer says.

    Attributes:
        labels: The best label, or all that hold of a multi-label model.
        confidence: From 0 to 1.
    """

    labels: frozenset[str]
    confidence: float


@dataclass(kw_only=True)
class Health:
    """What the watches have seen. Not safe to use from several threads at once.

    Attributes:
        settings: The limits.
        errors: +1 where the candidate failed and the stable model answered, else 0.
        slower: +1 where the candidate took longer than the limit allows, else -1.
        flips: +1 where the best labels differ, else 0.
        labels: By label: +1 where the candidate alone gave it, -1 where the stable one alone did.
        compared: Items that both answered.
        shift: Sum of the differences of their confidence.
        shift_squares: Sum of their squares.
        num_labels: Labels that there are.
    """

    settings: CanarySettings
    errors: ExcessCount = field(default_factory=ExcessCount)
    slower: ExcessCount = field(default_factory=ExcessCount)
    flips: ExcessCount = field(default_factory=ExcessCount)
    labels: dict[str, ExcessCount] = field(default_factory=dict)
    compared: int = 0
    shift: float = 0.0
    shift_squares: float = 0.0
    num_labels: int = 1

    def asked(self, *, failed: bool) -> None:
        """Note a call of the candidate; one that the stable model fails too is no failure."""
        self.errors.add(1 if failed else 0)

    def timed(self, *, stable_s: float, candidate_s: float) -> None:
        """Note what both took on one item, in seconds."""
        limits = self.settings
        slower = (
            candidate_s > limits.max_latency_ratio * stable_s
            and 1000 * (candidate_s - stable_s) > limits.min_latency_excess_ms
        )
        self.slower.add(1 if slower else -1)

    def answered(self, stable: Said, candidate: Said, *, num_labels: int) -> None:
        """Note what both said of one item, and how many labels there are."""
        self.compared += 1
        self.num_labels = max(self.num_labels, num_labels)
        difference = candidate.confidence - stable.confidence
        self.shift += difference
        self.shift_squares += difference * difference
        self.flips.add(1 if stable.labels != candidate.labels else 0)
        for label in candidate.labels - stable.labels:
            self.labels.setdefault(label, ExcessCount()).above += 1
        for label in stable.labels - candidate.labels:
            self.labels.setdefault(label, ExcessCount()).below += 1

    def evidence(self) -> Mapping[str, float]:
        """Return each watch's evidence against the candidate; :attr:`stop_at` of one ends it."""
        limits = self.settings
        return {
            "errors": self.errors.evidence(limits.max_error_excess),
            "latency": self.slower.evidence(0.0),
            "flips": self.flips.evidence(limits.max_flips),
            "confidence": self._confidence_evidence(),
            "labels": self._label_evidence(),
        }

    @property
    def stop_at(self) -> float:
        """Evidence at which a candidate is stopped: the level is divided among the watches."""
        return len(WATCHES) / self.settings.false_stop

    def reason(self, evidence: Mapping[str, float] | None = None) -> tuple[str, str] | None:
        """Return which watch speaks against the candidate, and its words; None where none does.

        Args:
            evidence: That of now, where it is known already.
        """
        found = self.evidence() if evidence is None else evidence
        worst = max(WATCHES, key=lambda name: found[name])
        if found[worst] < self.stop_at:
            return None
        return worst, self._words(worst)

    def _words(self, watch: str) -> str:
        limits, count = self.settings, self.compared
        if watch == "errors":
            return (
                f"it failed {self.errors.above} of {self.errors.count} calls that the stable model "
                f"answered; at most {limits.max_error_excess:.1%} is allowed"
            )
        if watch == "latency":
            return (
                f"{self.slower.above} of {self.slower.count} items took more than "
                f"{limits.max_latency_ratio:g} times as long as on the stable model; half may"
            )
        if watch == "flips":
            return (
                f"{self.flips.above} of {count} items got another label; at most "
                f"{limits.max_flips:.1%} is allowed"
            )
        if watch == "confidence":
            return (
                f"the mean confidence of {count} items moved by {self.shift / count:+.3f}; at most "
                f"{limits.max_confidence_shift:g} is allowed"
            )
        label, counts = max(self.labels.items(), key=lambda row: abs(row[1].above - row[1].below))
        moved = (counts.above - counts.below) / count
        return (
            f"the share of the label '{label}' moved by {moved:+.1%} on {count} items; at most "
            f"{limits.max_label_shift:.1%} is allowed"
        )

    def _confidence_evidence(self) -> float:
        up, down = (
            mean_shift_evidence(
                sign * self.shift,
                self.shift_squares,
                self.compared,
                limit=self.settings.max_confidence_shift,
            )
            for sign in (1, -1)
        )
        return (up + down) / 2

    def _label_evidence(self) -> float:
        """Average over all labels and directions: an average of such evidence is evidence.

        Labels on which the models never differed have none worth a sum.
        """
        if not self.labels:
            return 1.0
        above = np.array([row.above for row in self.labels.values()])
        below = np.array([row.below for row in self.labels.values()])
        equal = self.compared - above - below
        both = np.stack([above, equal, below], axis=1), np.stack([below, equal, above], axis=1)
        found = excess_evidence(np.concatenate(both), self.settings.max_label_shift)
        return float(found.sum()) / (2 * max(self.num_labels, len(self.labels)))


def _check(name: str, value: object, holds: object, expected: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value}; {expected} was expected", got=value)
