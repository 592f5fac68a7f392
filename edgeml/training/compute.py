"""Precision and memory layout of training steps: what was asked for, or what measures faster.

Both have a say in the last bits of the weights. So a stopwatch decides only where ``auto`` lets it,
and what it chose is written down in the words that ask for it again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from edgeml.training.settings import MemoryLayout
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
        return f"{self.precision} {self.memory_layout}"

    @property
    def precision(self) -> Precision:
        """What asks for it."""
        return "bf16" if self.bf16 else "fp32"

    @property
    def memory_layout(self) -> MemoryLayout:
        """What asks for it."""
        return "channels_last" if self.channels_last else "contiguous"


@dataclass(frozen=True, kw_only=True)
class ChosenCompute:
    """What was chosen, why, and the median time of a step of each candidate."""

    compute: Compute
    reason: str
    step_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        asks = {name: getattr(self.compute, name) for name in ("precision", "memory_layout")}
        return {**asdict(self.compute), **asks, "reason": self.reason, "step_ms": self.step_ms}


def choose_compute(
    wanted: Precision,
    step: Callable[[Compute], None],
    *,
    layout: MemoryLayout | None = None,
    num_steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> ChosenCompute:
    """Settle precision and layout; with ``auto``, by timing a few steps of each in turns.

    Args:
        wanted: What the settings say; ``auto`` tries bfloat16 where the processor has it.
        step: Computes one step that changes nothing.
        layout: What the settings say; None tries both with ``auto``, and else is channels_last.
        num_steps: Steps of the whole training; few are not worth a measurement.
        clock: Seconds.
    """
    # Exactness first, then the layout that is the faster one on most processors.
    layouts = [True, False] if layout is None else [layout == "channels_last"]
    if wanted != "auto":
        asked = Compute(bf16=wanted == "bf16", channels_last=layouts[0])
        return ChosenCompute(compute=asked, reason="asked for", step_ms={})
    precisions = [False, True] if processor_flags() & BF16_FLAGS else [False]
    candidates = [Compute(bf16=bf16, channels_last=last) for bf16 in precisions for last in layouts]
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
