"""May a candidate take the stable model's place? The gate of exports, on what real traffic showed.

People ask again until they like the answer. So the looks share the 5 %: the k-th look at new data
has the level 0.05 / (k * (k + 1)), and all of them together keep 5 % however many there are.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

from edgeml.core.escalation import wilson_interval
from edgeml.core.gate import Gate
from edgeml.core.paired import Agreement, PairedAccuracy, tango_upper_bound
from edgeml.serving.routing.comparing import Tally

_LEVEL = 0.05
_MAX_SAMPLES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict on a candidate.

    Attributes:
        passed: Whether it may be promoted.
        basis: ``accuracy`` where labels were fed back, ``agreement`` where both models' answers
            were compared without, ``nothing`` where neither is there.
        reason: The gate's words, and what is missing.
        samples: Items that it rests on.
        samples_needed: How many would be enough if things stay as they are; None where no number
            would, or it passed.
        looks: How often new data was looked at, this time included.
    """

    passed: bool
    basis: Literal["accuracy", "agreement", "nothing"]
    reason: str
    samples: int
    samples_needed: int | None
    looks: int

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


class Decisions:
    """Counts the looks at a candidate. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks = 0
        self._seen = -1

    def decide(self, tally: Tally, *, gate: Gate, stopped: str | None) -> Decision:
        """Judge what was seen so far.

        Args:
            tally: What was compared.
            gate: The limits.
            stopped: Why the candidate was stopped, if it was.
        """
        paired, agreement = tally.paired, tally.agreement
        looks, z = self._look(paired.num_samples if paired else tally.compared)
        if stopped is not None:
            found = replace(_nothing(looks), reason=f"the candidate was stopped: {stopped}")
        elif paired is not None:
            found = _by_accuracy(paired, gate, looks, z)
        elif agreement is not None:
            found = _by_agreement(agreement, gate, looks, z)
        else:
            found = _nothing(looks)
        return found

    def _look(self, seen: int) -> tuple[int, float]:
        """Count a look if there is something new; return the looks and the bound's quantile."""
        with self._lock:
            if seen != self._seen:
                self._looks += 1
                self._seen = seen
            level = _LEVEL / (self._looks * (self._looks + 1))
            return self._looks, NormalDist().inv_cdf(1 - level)


def _by_accuracy(paired: PairedAccuracy, gate: Gate, looks: int, z: float) -> Decision:
    bound = tango_upper_bound(paired.lost, paired.gained, paired.num_samples, z=z)
    passed, reason = gate.judge_accuracy(replace(paired, upper_bound=bound))
    needed = None if passed else paired.samples_needed(gate.max_accuracy_drop, z=z)
    return Decision(
        passed=passed,
        basis="accuracy",
        reason=reason,
        samples=paired.num_samples,
        samples_needed=needed,
        looks=looks,
    )


def _by_agreement(agreement: Agreement, gate: Gate, looks: int, z: float) -> Decision:
    within, words = gate.judge_agreement(agreement)
    count = agreement.num_samples
    _, bound = wilson_interval(agreement.flips * count, count, z=z)
    proven = bound <= gate.max_flips or not gate.require_proof
    reason = words.replace("agreement with fp32", "agreement with the stable model")
    needed = None
    if not within:
        reason += "; outside the gate: feed labels back to judge it by its accuracy"
    elif not proven:
        needed = _agreement_samples(agreement.flips, gate.max_flips, z)
        more = f"{needed} comparisons would prove it" if needed else "no number would prove it"
        reason += f"; the share of flips is not proven, its bound is {100 * bound:.2f} %: {more}"
    return Decision(
        passed=within and proven,
        basis="agreement",
        reason=reason,
        samples=count,
        samples_needed=needed,
        looks=looks,
    )


def _agreement_samples(flips: float, limit: float, z: float) -> int | None:
    """Return how many comparisons would bound the flips below a limit at the same rate."""
    count = 16
    while count < _MAX_SAMPLES:
        if wilson_interval(flips * count, count, z=z)[1] <= limit:
            return count
        count += max(1, count // 16)
    return None


def _nothing(looks: int) -> Decision:
    return Decision(
        passed=False,
        basis="nothing",
        reason="nothing was compared yet; set shadow above 0 or feed labels back",
        samples=0,
        samples_needed=None,
        looks=looks,
    )
