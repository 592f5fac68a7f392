"""How much is measured, and what the deployment must keep."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgeml.errors import InputError

SCENARIOS = ("single-stream", "multi-stream", "server", "offline")


@dataclass(frozen=True, kw_only=True)
class ServiceLevel:
    """What a deployment must keep; None leaves a thing open.

    Attributes:
        p99_ms: Bound on the 99th percentile of the response time, in milliseconds.
        rate_per_s: Requests a second that arrive, in all.
        min_accuracy: Least share of right answers.
        max_memory_mb: Most memory of the processes that answer, in megabytes.
    """

    p99_ms: float | None = None
    rate_per_s: float | None = None
    min_accuracy: float | None = None
    max_memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; a number above 0 was expected", item=name)
        if self.min_accuracy is not None and self.min_accuracy > 1:
            raise InputError(
                f"min_accuracy is {self.min_accuracy}; a share up to 1 was expected",
                item="min_accuracy",
            )

    @property
    def asked(self) -> bool:
        """Whether anything was asked for."""
        return any(value is not None for value in asdict(self).values())

    def to_json(self) -> dict[str, Any]:
        """Return the bounds as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """How much is measured.

    Attributes:
        preset: ``quick`` or ``full``.
        num_threads: Threads of every deployment that is started here.
        repeats: Single-stream and multi-stream runs of each target, in turns with the others.
        run_s: Length of each of them.
        server_s: Length of the run with scheduled arrivals.
        offline_s: About how long the offline run takes.
        batch: Samples of one offline query.
        callers: Queries under way at once in multi-stream.
        search_rates: Whether the highest rate within the p99 bound is searched by real runs.
        starts: Fresh processes whose first answer is timed.
        retry_s: After so many seconds a disturbed run is no longer made again.
        seed: Seed of arrivals and orders.
    """

    preset: str = "quick"
    num_threads: int = 1
    repeats: int = 5
    run_s: float = 1.0
    server_s: float = 7.0
    offline_s: float = 2.0
    batch: int = 8
    callers: int = 4
    search_rates: bool = False
    starts: int = 3
    retry_s: float = 75.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_threads", "repeats", "batch", "callers", "starts"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 was expected")
        for name in ("run_s", "server_s", "offline_s", "retry_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; seconds above 0 were expected")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)


def settings_of(preset: str, *, num_threads: int = 1, seed: int = 0) -> ProfileSettings:
    """Return the settings of a preset.

    Raises:
        InputError: There is no such preset.
    """
    if preset == "quick":
        return ProfileSettings(num_threads=num_threads, seed=seed)
    if preset == "full":
        return ProfileSettings(
            preset="full",
            num_threads=num_threads,
            repeats=7,
            run_s=8.0,
            server_s=45.0,
            offline_s=15.0,
            search_rates=True,
            starts=9,
            retry_s=1800.0,
            seed=seed,
        )
    raise InputError(f"the preset is '{preset}'; 'quick' or 'full' was expected", item="preset")


def check_scenarios(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return scenarios, each once.

    Raises:
        InputError: One is unknown, or there is none.
    """
    found = tuple(dict.fromkeys(names))
    unknown = [name for name in found if name not in SCENARIOS]
    if unknown or not found:
        said = f"'{unknown[0]}' is no scenario" if unknown else "no scenario was named"
        raise InputError(f"{said}; {', '.join(SCENARIOS)} are known; name some", item="scenarios")
    return found
