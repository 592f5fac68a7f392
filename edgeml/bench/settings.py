"""How a run is made, whatever the scenario."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How the generator works.

    Attributes:
        warmup: Calls before the clock runs, not counted; shared by the callers, rounded up.
        spin_us: The last part of each wait, in microseconds, which is spun instead of slept.
        gc_enabled: Whether Python's garbage collector may run during the measured part. Off, it is
            run once before, and what lives then is frozen.
        drain_s: Seconds after the last query is sent, in which answers still count; what is then
            under way is a timeout.
        cpus: Processors that the generator is bound to; empty leaves it where it is.
        seed: Seed of the order in which samples are asked.
    """

    warmup: int = 20
    spin_us: float = 200.0
    gc_enabled: bool = False
    drain_s: float = 10.0
    cpus: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.seed < 0:
            raise InputError(f"warmup {self.warmup} and seed {self.seed}: at least 0 was expected")
        if not 0 <= self.spin_us <= 10_000 or not 0 <= self.drain_s < float("inf"):
            raise InputError(
                f"spin_us {self.spin_us} and drain_s {self.drain_s}: 0 to 10,000 and a finite "
                "time were expected"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
