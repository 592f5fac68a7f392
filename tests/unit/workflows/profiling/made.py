"""Records and rows with known times."""

from __future__ import annotations

import numpy as np

from edgeml.bench.floors import Floor
from edgeml.bench.record import Outcome, Record
from edgeml.workflows.profiling.rows import Row, Subject, make_row

SECOND = 1_000_000_000


def record(
    service_ms: list[float] | np.ndarray,
    *,
    scenario: str = "single-stream",
    offered_per_s: float | None = None,
    num_wrong: int = 0,
    failed: int = 0,
) -> Record:
    """A run of one query after the other; the last few fail."""
    taken = np.asarray(service_ms, dtype=np.float64)
    done = np.cumsum(taken * 1e6).astype(np.int64) + SECOND
    due = np.concatenate([[SECOND], done[:-1]])
    outcome = np.zeros(taken.size, dtype=np.uint8)
    if failed:
        outcome[-failed:] = Outcome.ERROR
    return Record(
        due_ns=due,
        sent_ns=due,
        done_ns=done,
        lag_ns=np.zeros_like(due),
        outcome=outcome,
        scenario=scenario,
        offered_per_s=offered_per_s,
        num_checked=taken.size,
        num_wrong=num_wrong,
        wrong=("sample 0: wrong",) if num_wrong else (),
    )


def subject(target: str, *, placement: str = "co-located", accuracy: float = 0.9) -> Subject:
    return Subject(
        target=target,
        placement=placement,
        served_by="onnxruntime/cpu/int8/1",
        variant="int8",
        accuracy=accuracy,
        size_bytes=1000,
        threads=1,
        floor=Floor(client="in-process", p50_us=1.0),
    )


def single(target: str, milliseconds: float, *, placement: str = "co-located") -> Row:
    """A single-stream row of 1,000 answers around a time."""
    rng = np.random.default_rng(0)
    taken = milliseconds * rng.uniform(0.95, 1.05, 1000)
    return make_row(subject(target, placement=placement), [record(taken)])
