"""How a fallback waits, gives up, comes back, retries and hedges: the numbers, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FallbackSettings:
    """The numbers of a fallback.

    Attributes:
        cut_over_s: Longest time that a call waits for the server before the edge is asked; an
            :func:`edgeml.deadline` of the caller shortens it, less what the edge will need.
        deadline_s: Longest time that a call waits for the server where the policy is ``required``
            and the caller set no shorter deadline.
        failures_to_open: Failed calls in a row after which the breaker opens.
        failure_share_to_open: Share of failed calls, of the last ``window_calls`` within
            ``window_s``, at which it opens too; slow calls, those cut over, are among the failed.
        window_calls: Calls that are looked at.
        window_s: Seconds that are looked back.
        probe_every_s: Longest pause between two probes while the breaker is open; each pause is
            drawn at random up to it, after the first ones, which are shorter.
        probe_timeout_s: Time for the first golden request after a failure, which may have to
            connect and read the contract again; the next one must end within ``cut_over_s``.
        probes_to_close: Golden requests in a row that must be right before calls go to the server.
        max_retries: Further tries of a call on the server, within the same time.
        retry_share: Retries that are allowed for each call in the long run.
        retry_pause_s: Longest pause before the first retry, doubled for each further one; drawn at
            random from zero up.
        hedge_after_s: Time after which the edge is asked as well and the first answer wins:
            seconds, ``p95`` for what 95 % of the server's recent answers took, None for never.
        hedge_threads: Calls that may be hedged at once; more go without.
        idempotent: Whether a call may reach the server twice. A model that keeps state between
            requests is not: it is never retried nor hedged.
        allow_other_artefact: Whether server and edge may run different trainings of the model.
    """

    cut_over_s: float = 0.3
    deadline_s: float = 1.0
    failures_to_open: int = 5
    failure_share_to_open: float = 0.5
    window_calls: int = 20
    window_s: float = 10.0
    probe_every_s: float = 1.0
    probe_timeout_s: float = 2.0
    probes_to_close: int = 2
    max_retries: int = 1
    retry_share: float = 0.1
    retry_pause_s: float = 0.02
    hedge_after_s: float | Literal["p95"] | None = None
    hedge_threads: int = 16
    idempotent: bool = True
    allow_other_artefact: bool = False

    def __post_init__(self) -> None:
        for name in ("cut_over_s", "deadline_s", "window_s", "probe_every_s", "probe_timeout_s"):
            self._check(name, low=0.001, high=3600.0)
        self._check("retry_pause_s", low=0.0, high=60.0)
        self._check("failure_share_to_open", low=0.01, high=1.0)
        self._check("retry_share", low=0.0, high=1.0)
        for name in ("failures_to_open", "probes_to_close", "hedge_threads"):
            self._check(name, low=1, high=1000)
        self._check("window_calls", low=self.failures_to_open, high=100_000)
        self._check("max_retries", low=0, high=10)
        if self.hedge_after_s is not None and self.hedge_after_s != "p95":
            self._check("hedge_after_s", low=0.0, high=self.cut_over_s)
        if self.hedge_after_s is not None and not self.idempotent:
            raise InputError(
                "hedge_after_s is set for calls that are not idempotent; None was expected: a "
                "hedged call is answered twice"
            )

    def _check(self, name: str, *, low: float, high: float) -> None:
        value = getattr(self, name)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if good and isinstance(low, int):
            good = isinstance(value, int)
        if not good or not math.isfinite(value) or not low <= value <= high:
            kind = "a whole number" if isinstance(low, int) else "a number"
            raise InputError(
                f"{name} is {value!r}; {kind} from {low:g} to {high:g} was expected", got=value
            )
