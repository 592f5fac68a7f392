"""The gate: when is a variant no worse than fp32? Numbers in, a verdict with its reason out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeml.core.paired import Agreement, PairedAccuracy


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Limits that a variant must keep.

    Attributes:
        max_accuracy_drop: Largest net paired drop of accuracy, a fraction: 0.005 is half a point.
        require_proof: Whether the upper bound of the drop, not only the drop, must be within the
            limit.
        max_flips: Without labels: largest share of samples whose best class changes.
        max_mean_kl: Without labels: largest mean divergence, in nats.
        max_probability_difference: Without labels: largest difference of two probabilities.
        max_relative_error: For outputs that are no class scores: largest error, relative to their
            size, as a root of mean squares.

    Example:
        >>> Gate(max_accuracy_drop=0.003).max_accuracy_drop
        0.003
    """

    max_accuracy_drop: float = 0.005
    require_proof: bool = False
    max_flips: float = 0.005
    max_mean_kl: float = 0.01
    max_probability_difference: float = 0.05
    max_relative_error: float = 0.05

    def __post_init__(self) -> None:
        for name in (
            "max_accuracy_drop",
            "max_flips",
            "max_probability_difference",
            "max_relative_error",
        ):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(
                    f"{name} is a fraction below 1, got {value}; half a point is 0.005"
                )
        if not 0 <= self.max_mean_kl < math.inf:
            raise ValueError(f"max_mean_kl is in nats, finite, from 0, got {self.max_mean_kl}")

    def judge_accuracy(self, paired: PairedAccuracy) -> tuple[bool, str]:
        """Return whether a labelled comparison passes, and why."""
        limit = self.max_accuracy_drop
        proven = paired.proven(limit)
        needed = paired.samples_needed(limit)
        text = (
            f"accuracy drop {100 * paired.drop:+.2f} points of {100 * limit:.2f} allowed "
            f"({paired.lost} lost, {paired.gained} gained of {paired.num_samples}; "
            f"95 % bound {100 * paired.upper_bound:+.2f}, "
        )
        if proven:
            text += "proven)"
        else:
            need = "at any number of samples" if needed is None else f"{needed} samples needed"
            text += f"not proven: {need})" if needed else f"not proven {need})"
        # Fractions such as 3/1000 are not exact in binary: a drop equal to the limit passes.
        passed = paired.drop <= limit + 1e-12 and (proven or not self.require_proof)
        return passed, text

    def judge_agreement(self, agreement: Agreement) -> tuple[bool, str]:
        """Return whether an unlabelled comparison passes, and why."""
        passed = (
            agreement.flips <= self.max_flips
            and agreement.mean_kl <= self.max_mean_kl
            and agreement.max_difference <= self.max_probability_difference
            and agreement.relative_error <= self.max_relative_error
        )
        parts = []
        if agreement.flips or agreement.mean_kl or agreement.max_difference:
            parts.append(
                f"{100 * agreement.flips:.2f} % flips, mean KL {agreement.mean_kl:.2g}, "
                f"largest difference {agreement.max_difference:.3f}"
            )
        if agreement.relative_error:
            parts.append(f"relative error {agreement.relative_error:.3g}")
        found = ", ".join(parts) or "no difference"
        return passed, f"agreement with fp32: {found} ({agreement.num_samples} samples, no labels)"
