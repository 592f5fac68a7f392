"""Records made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.record import Outcome, Record


def make_record(
    response_ms: npt.ArrayLike,
    *,
    rate_per_s: float | None = 100.0,
    lag_ms: float | npt.ArrayLike = 0.0,
    outcomes: dict[int, Outcome] | None = None,
    **changes: Any,
) -> Record:
    """A record whose queries are due at a constant rate and answered after these times."""
    response = np.asarray(response_ms, dtype=np.float64)
    due = (np.arange(len(response)) * 1e9 / (rate_per_s or 100.0)).astype(np.int64)
    lag = np.broadcast_to(np.asarray(lag_ms) * 1e6, due.shape).astype(np.int64)
    sent = due + lag
    done = due + (response * 1e6).astype(np.int64)
    outcome = np.full(len(due), Outcome.OK, dtype=np.uint8)
    for query, value in (outcomes or {}).items():
        outcome[query] = value
        if value == Outcome.DROPPED:
            sent[query] = done[query] = -1
    values = {
        "scenario": "server" if rate_per_s else "single-stream",
        "offered_per_s": rate_per_s,
        "client": "hand",
        **changes,
    }
    return Record(due_ns=due, sent_ns=sent, done_ns=done, lag_ns=lag, outcome=outcome, **values)
