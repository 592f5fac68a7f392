"""Precision and memory layout of training steps: what was asked for, or what measures faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from edgeml.training.text_precision import BF16_FLAGS, processor_flags
from edgeml.training.text_settings import Precision

_ROUNDS = 3
# Less gain than this is noise: the first of the candidates, the most exact one, stays.
_MIN_SPEEDUP = 1.1
# A shorter training is over before a measurement would have paid.
MIN_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How steps are computed.

    Attributes:
        bf16: Whether in bfloat16.
        channels_last: Whether in torch's channels_last memory layout.
    """

    bf16: bool
    channels_last: bool

    @property
    def name(self) -> str:
        """Such as ``bf16 channels_last``."""
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{'bf16' if self.bf16 else 'fp32'} {layout}"


@dataclass(frozen=True, kw_only=True)
class ChosenCompute:
    """What was chosen, why, and the median time of a step of each candidate."""

    compute: Compute
    reason: str
    step_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {**asdict(self.compute), "reason": self.reason, "step_ms": self.step_ms}


def choose_compute(
    wanted: Precision,
    step: Callable[[Compute], None],
    *,
    num_steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> ChosenCompute:
    """Settle precision and layout by timing a few steps of each candidate in turns.

    Args:
        wanted: What the settings say; ``auto`` tries bfloat16 where the processor has it.
        step: Computes one step that changes nothing.
        num_steps: Steps of the whole training; few are not worth a measurement.
        clock: Seconds.
    """
    precisions = [wanted == "bf16"]
    if wanted == "auto":
        precisions = [False, True] if processor_flags() & BF16_FLAGS else [False]
    # Exactness first, then the layout that is the faster one on most processors.
    candidates = [
        Compute(bf16=bf16, channels_last=layout) for bf16 in precisions for layout in (True, False)
    ]
    if num_steps < MIN_STEPS:
        reason = f"{num_steps} steps are too few to be worth a measurement"
        return ChosenCompute(compute=candidates[0], reason=reason, step_ms={})
    times: dict[Compute, list[float]] = {row: [] for row in candidates}
    for number in range(_ROUNDS + 1):
        for row in candidates:
            began = clock()
            step(row)
            if number:  # the first of each warms up
                times[row].append((clock() - began) * 1e3)
    medians = {row: statistics.median(values) for row, values in times.items()}
    best = candidates[0]
    for row in candidates[1:]:
        if medians[row] * _MIN_SPEEDUP <= medians[best]:
            best = row
    reason = f"{best.name} takes {medians[best]:.0f} ms a step of the measurement"
    named = {row.name: round(value, 3) for row, value in medians.items()}
    return ChosenCompute(compute=best, reason=reason, step_ms=named)
