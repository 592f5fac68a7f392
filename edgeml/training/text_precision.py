"""Whether training steps are computed in bfloat16: what was asked for, or what measures faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgeml.training.text_settings import Precision

_CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_ROUNDS = 3
# Less gain than this is noise, and fp32 is the more exact one.
_MIN_SPEEDUP = 1.1


@dataclass(frozen=True, kw_only=True)
class UsedPrecision:
    """What training steps were computed in.

    Attributes:
        precision: ``fp32`` or ``bf16``.
        reason: Why.
        step_ms: Median time of a step of each that was measured.
    """

    precision: Literal["fp32", "bf16"]
    reason: str
    step_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def choose_precision(
    wanted: Precision,
    step: Callable[[Literal["fp32", "bf16"]], None],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> UsedPrecision:
    """Settle a precision; ``auto`` measures where the processor has the instructions.

    Args:
        wanted: What the settings say.
        step: Computes one step that changes no weight.
        clock: Seconds.
    """
    if wanted != "auto":
        return UsedPrecision(precision=wanted, reason="asked for", step_ms={})
    if not processor_flags() & BF16_FLAGS:
        reason = "this processor has no instructions for bfloat16"
        return UsedPrecision(precision="fp32", reason=reason, step_ms={})
    kinds: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(_ROUNDS + 1):
        for kind in kinds:
            began = clock()
            step(kind)
            if number:  # the first of each warms up
                times[kind].append((clock() - began) * 1e3)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    faster = medians["bf16"] * _MIN_SPEEDUP <= medians["fp32"]
    reason = f"bf16 takes {medians['bf16'] / max(medians['fp32'], 1e-9):.2f} of the time of fp32"
    return UsedPrecision(precision="bf16" if faster else "fp32", reason=reason, step_ms=medians)


def processor_flags() -> frozenset[str]:
    """Return the processor's flags, or none where the system does not tell them."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((row for row in text.splitlines() if row.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
