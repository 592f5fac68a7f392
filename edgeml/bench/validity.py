"""Whether a run may be believed. A run that may not keeps its figures and says why.

The generator must have sent what it was asked to send, when it was asked to; the answers must be
right; and the parts of a run must agree with each other. A server that is slow, refuses or fails
does not make a run invalid: that is what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeml.bench.record import Outcome, Record


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What makes a run invalid.

    Attributes:
        max_lag_ms: The generator may be this late at its 99th percentile in any case,
        max_lag_share: or this share of the response's p50, whichever is larger.
        min_achieved: Least share of the offered queries that must have been sent, in count and in
            pace.
        max_spread: Largest difference between the medians of the run's parts, relative to their
            median.
        num_parts: Parts, in time order.
        min_part: Queries that a part needs; a run with less than twice as many is not judged by
            its spread.
    """

    max_lag_ms: float = 1.0
    max_lag_share: float = 0.05
    min_achieved: float = 0.98
    max_spread: float = 0.25
    num_parts: int = 5
    min_part: int = 20


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a run may be believed.

    Attributes:
        valid: Whether it may.
        reasons: Why not, one line each.
        late: Whether the generator was late or left queries out.
        wrong: Whether answers were wrong.
        unstable: Whether its parts disagree.
        spread: The difference between its parts; None where it has too few queries.
    """

    valid: bool
    reasons: tuple[str, ...] = ()
    late: bool = False
    wrong: bool = False
    unstable: bool = False
    spread: float | None = None

    @property
    def reason(self) -> str:
        """All reasons in one line; empty for a valid run."""
        return "; ".join(self.reasons)


def judge(record: Record, *, limits: Limits | None = None) -> Verdict:
    """Say whether a run may be believed.

    Args:
        record: The run.
        limits: What makes it invalid.
    """
    limits = limits or Limits()
    late = [*_late(record, limits), *_behind(record, limits)]
    wrong = []
    if record.num_wrong:
        example = record.wrong[0] if record.wrong else ""
        wrong = [f"{record.num_wrong} of {record.num_checked} answers are wrong ({example})"]
    spread = _spread_in(record, limits)
    unstable = []
    if spread is not None and spread > limits.max_spread:
        unstable = [
            f"unstable: the medians of its {limits.num_parts} parts lie {100 * spread:.0f} % "
            f"apart; at most {100 * limits.max_spread:.0f} % is allowed"
        ]
    nothing = [] if record.count(Outcome.OK) else [_nothing(record)]
    reasons = (*late, *wrong, *unstable, *nothing)
    return Verdict(
        valid=not reasons,
        reasons=reasons,
        late=bool(late),
        wrong=bool(wrong),
        unstable=bool(unstable),
        spread=spread,
    )


def spread_of(values: npt.ArrayLike) -> float:
    """Return how far values lie apart, relative to their median: of rows, runs or parts.

    Args:
        values: float ``(values,)``, positive.
    """
    array = np.asarray(values, dtype=np.float64)
    return float((array.max() - array.min()) / np.median(array))


def _late(record: Record, limits: Limits) -> list[str]:
    lag = record.send_lag_ms
    answered = record.response_ms[np.isfinite(record.response_ms)]
    if record.scenario != "server" or not lag.size:
        return []
    p99 = float(np.quantile(lag, 0.99))
    p50 = float(np.median(answered)) if answered.size else 0.0
    allowed = max(limits.max_lag_ms, limits.max_lag_share * p50)
    if p99 <= allowed:
        return []
    return [f"the generator was late: p99 of its lag is {p99:.2f} ms, {allowed:.2f} ms is allowed"]


def _behind(record: Record, limits: Limits) -> list[str]:
    """Compare what was sent with what was offered: fewer queries, or the same ones more slowly."""
    if record.scenario != "server":
        return []
    dropped = record.count(Outcome.DROPPED)
    if dropped > (1 - limits.min_achieved) * len(record):
        callers = record.conditions.get("callers", "all")
        return [
            f"the generator dropped {100 * dropped / len(record):.1f} % of the queries: its "
            f"{callers} callers were busy; take more callers or a lower rate"
        ]
    lag = record.send_lag_ms
    planned = float(record.due_ns[-1] - record.due_ns[0]) / 1e6
    last_lag = float(lag[-1]) if lag.size else 0.0
    pace = planned / max(planned + last_lag, 1e-9)
    if planned > 0 and pace < limits.min_achieved:
        return [f"the generator sent {100 * pace:.1f} % of the offered rate"]
    return []


def _spread_in(record: Record, limits: Limits) -> float | None:
    if record.scenario == "offline":
        return None
    good = record.response_ms[record.outcome == Outcome.OK]
    num = min(limits.num_parts, good.size // limits.min_part)
    if num < 2:
        return None
    return spread_of([np.median(part) for part in np.array_split(good, num)])


def _nothing(record: Record) -> str:
    example = f" ({record.failures[0]})" if record.failures else ""
    return f"none of {len(record)} queries was answered{example}"
