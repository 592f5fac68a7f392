"""Put the notes of all callers together into one record, and check the answers they kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.caller import NUM_FIELDS, Caller
from edgeml.bench.record import Outcome, Record
from edgeml.bench.scenarios import Offline, Scenario, Server, scenario_name
from edgeml.bench.targets import Target

_EXAMPLES = 5


def build_record(
    target: Target,
    scenario: Scenario,
    callers: Sequence[Caller],
    *,
    due_ns: npt.NDArray[np.int64] | None,
    dropped: Sequence[int],
    conditions: Mapping[str, Any],
) -> Record:
    """Return the record of a run that has ended.

    Args:
        target: Checks the answers.
        scenario: What was run.
        callers: Their notes.
        due_ns: When each query was due; None in a closed loop.
        dropped: Queries that were never sent for want of a caller.
        conditions: How the run was made.
    """
    rows = np.concatenate([np.array(caller.rows, dtype=np.int64) for caller in callers])
    rows = rows.reshape(-1, NUM_FIELDS)
    if due_ns is None:
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        due_ns = rows[:, 1]
        rows[:, 0] = np.arange(len(rows))
    sent, done, lag = (np.full(len(due_ns), -1, dtype=np.int64) for _ in range(3))
    outcome = np.full(len(due_ns), Outcome.TIMEOUT, dtype=np.uint8)
    outcome[list(dropped)] = Outcome.DROPPED
    query = rows[:, 0]
    sent[query], done[query], lag[query], outcome[query] = rows[:, 1:].T
    for caller in callers:  # what is still under way has no end
        if (stuck := caller.under_way) is not None and stuck[0] < len(due_ns):
            sent[stuck[0]], lag[stuck[0]] = stuck[1:]
    checked, wrong = _check(target, callers)
    return Record(
        due_ns=due_ns,
        sent_ns=sent,
        done_ns=done,
        lag_ns=lag,
        outcome=outcome,
        scenario=scenario_name(scenario),
        offered_per_s=scenario.schedule.rate_per_s if isinstance(scenario, Server) else None,
        samples_per_query=scenario.samples_per_query if isinstance(scenario, Offline) else 1,
        client=target.client,
        num_checked=checked,
        num_wrong=len(wrong),
        wrong=tuple(wrong[:_EXAMPLES]),
        failures=tuple(line for caller in callers for line in caller.failures)[:_EXAMPLES],
        conditions={**target.conditions, **conditions},
    )


def _check(target: Target, callers: Sequence[Caller]) -> tuple[int, list[str]]:
    kept = [pair for caller in callers for pair in caller.kept]
    said = (target.check(sample, answer) for sample, answer in kept)
    return len(kept), [line for line in said if line is not None]
