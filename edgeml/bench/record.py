"""What a run left behind: four times and an outcome for each query. Nothing here is a statistic."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]


class Outcome(enum.IntEnum):
    """How a query ended."""

    OK = 0
    REFUSED = 1  # by the server, at once: a full queue, a limit
    TIMEOUT = 2  # no answer in the time allowed, or none when the run was ended
    ERROR = 3
    DROPPED = 4  # never sent: all callers were busy


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One run, warm-up left out.

    Attributes:
        due_ns: int64 ``(queries,)``: when each query should have been sent. In a closed loop that
            is when its caller was free.
        sent_ns: When its call began; -1 where it was never sent.
        done_ns: When its call ended; -1 where it did not.
        lag_ns: How late the generator itself was: from the time at which the query was due and a
            caller was free, to the call. -1 where it was never sent.
        outcome: uint8 ``(queries,)`` of :class:`Outcome`.
        scenario: ``single-stream``, ``multi-stream``, ``server`` or ``offline``.
        offered_per_s: Queries a second that the schedule asks for; None in a closed loop.
        samples_per_query: Samples in one query.
        client: The client that carried the queries.
        num_checked: Answers that were compared with the right ones.
        wrong: What is wrong with some of them, and how many they are.
        num_wrong: How many were wrong.
        failures: The first few errors, one line each.
        conditions: How the run was made: garbage collection, spinning, callers, processors.
    """

    due_ns: Times
    sent_ns: Times
    done_ns: Times
    lag_ns: Times
    outcome: npt.NDArray[np.uint8]
    scenario: str
    offered_per_s: float | None
    samples_per_query: int = 1
    client: str = ""
    num_checked: int = 0
    num_wrong: int = 0
    wrong: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.due_ns.size)

    def count(self, outcome: Outcome) -> int:
        """Return how many queries ended so."""
        return int(np.count_nonzero(self.outcome == outcome))

    @property
    def seconds(self) -> float:
        """From the first query's due time to the last answer."""
        end = max(int(self.done_ns.max(initial=0)), int(self.due_ns[-1]))
        return max(end - int(self.due_ns[0]), 1) / 1e9

    @property
    def response_ms(self) -> npt.NDArray[np.float64]:
        """float64 ``(queries,)``: from due to done; infinite where there was no good answer."""
        return self._elapsed(self.due_ns)

    @property
    def service_ms(self) -> npt.NDArray[np.float64]:
        """float64 ``(queries,)``: from sent to done; infinite where there was no good answer."""
        return self._elapsed(self.sent_ns)

    @property
    def send_lag_ms(self) -> npt.NDArray[np.float64]:
        """float64 ``(sent,)``: how late the generator was with the queries that it sent."""
        return self.lag_ns[self.sent_ns >= 0] / 1e6

    def _elapsed(self, since_ns: Times) -> npt.NDArray[np.float64]:
        elapsed = (self.done_ns - since_ns) / 1e6
        return np.where(self.outcome == Outcome.OK, elapsed, np.inf)

    def save(self, folder: Path) -> None:
        """Write ``record.npz`` and ``record.json`` into a folder."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(folder / "record.npz", **arrays)
        rest = {name: getattr(self, name) for name in _VALUES}
        (folder / "record.json").write_text(json.dumps(rest), encoding="utf-8")


_ARRAYS = ("due_ns", "sent_ns", "done_ns", "lag_ns", "outcome")
_VALUES = (
    "scenario",
    "offered_per_s",
    "samples_per_query",
    "client",
    "num_checked",
    "num_wrong",
    "wrong",
    "failures",
    "conditions",
)


def load_record(folder: Path) -> Record:
    """Read what :meth:`Record.save` wrote."""
    with np.load(folder / "record.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in _ARRAYS}
    values = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    values["wrong"], values["failures"] = tuple(values["wrong"]), tuple(values["failures"])
    return Record(**arrays, **values)
