"""Which deployment, with what margin, and what would change the answer.

Rows of servers on this machine share its processors with the generator. So a server with
processors of its own is modelled from service times that were measured one at a time; a remote
address of the user's is measured instead. Networks, cost and energy are no part of this yet: each
would be one more :class:`Bound`, and one more term of a candidate's latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.queueing import model_server
from edgeml.workflows.profiling.rows import Row
from edgeml.workflows.profiling.settings import ServiceLevel
from edgeml.workflows.profiling.stages import Breakdown

_QUERIES = 20_000
_STEPS = 9
_NEEDS = (
    "the network's round trip between caller and server (none is in the model)",
    "service times on the server's own processor (this machine's are used)",
)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One thing that was asked for, and how a candidate stands to it.

    Attributes:
        name: Such as ``p99_ms``.
        limit: What was asked for.
        found: What the candidate has; None where it is not known.
        margin: Share of the limit that is left; negative where it is missed; None if unknown.
    """

    name: str
    limit: float
    found: float | None
    margin: float | None

    @property
    def kept(self) -> bool:
        """Whether it is known to be kept."""
        return self.margin is not None and self.margin >= 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One deployment under the asked load.

    Attributes:
        target: Its name.
        kind: ``measured`` or ``modelled``: where the latency comes from.
        p50_ms: Median response.
        p99_ms: 99th percentile of the response; None where it is not known.
        highest_rate_per_s: Highest rate within the p99 bound, modelled; None without a bound.
        accuracy: Share of right answers.
        memory_mb: Memory of the processes that answer.
        bounds: How it stands to each thing that was asked for.
        needs: Figures of the real host that the model lacks.
        provisional: Whether its row is invalid.
    """

    target: str
    kind: str
    p50_ms: float | None
    p99_ms: float | None
    highest_rate_per_s: float | None
    accuracy: float | None
    memory_mb: float | None
    bounds: tuple[Bound, ...]
    needs: tuple[str, ...] = ()
    provisional: bool = False

    @property
    def kept(self) -> bool:
        """Whether everything that was asked for is known to be kept."""
        return all(bound.kept for bound in self.bounds)

    @property
    def margin(self) -> float | None:
        """The smallest margin; None without bounds, or where one is not known."""
        margins = [bound.margin for bound in self.bounds]
        known = [margin for margin in margins if margin is not None]
        return min(known) if known and len(known) == len(margins) else None

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON values."""
        return {
            "target": self.target,
            "kind": self.kind,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "highest_rate_per_s": self.highest_rate_per_s,
            "accuracy": self.accuracy,
            "memory_mb": self.memory_mb,
            "kept": self.kept,
            "margin": self.margin,
            "provisional": self.provisional,
            "bounds": [dict(vars(bound)) for bound in self.bounds],
            "needs": list(self.needs),
        }


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the queue model needs of one target.

    Attributes:
        queued_ms: float ``(queries,)``: the part of each answer during which nobody else is served.
        around_ms: The rest of an answer, which does not queue.
    """

    queued_ms: npt.NDArray[np.float64]
    around_ms: float

    @classmethod
    def of(cls, row: Row, breakdown: Breakdown | None) -> Service:
        """Split measured service times by what the server itself takes.

        In-process all of it queues. Where nothing is known of a server, all of it counts as its
        own, which is too much rather than too little.
        """
        sample = row.service_sample_ms
        own = breakdown.server_ms if breakdown is not None else 0.0
        if row.subject.target == "edge" or own <= 0 or not sample.size:
            return cls(queued_ms=sample, around_ms=0.0)
        around = max(float(np.median(sample)) - own, 0.0)
        return cls(queued_ms=np.maximum(sample - around, 0.1 * own), around_ms=around)

    def at(self, rate_per_s: float) -> tuple[float | None, float | None]:
        """Return modelled p50 and p99 in milliseconds at a rate; None where the queue grows."""
        found = model_server(self.queued_ms, rate_per_s=rate_per_s, servers=1, num_queries=_QUERIES)
        if found.p50_ms is None or found.p99_ms is None:
            return None, None
        return found.p50_ms + self.around_ms, found.p99_ms + self.around_ms

    @property
    def capacity_per_s(self) -> float:
        """Queries a second at which it would never rest."""
        return 1e3 / float(np.mean(self.queued_ms))

    def curve(self) -> list[tuple[float, float]]:
        """Return rate and modelled p99 at several utilisations, for the picture."""
        rates = [float(self.capacity_per_s * share) for share in np.linspace(0.05, 0.95, 12)]
        found = [(rate, self.at(rate)[1]) for rate in rates]
        return [(rate, p99) for rate, p99 in found if p99 is not None]

    def highest_rate(self, bound_ms: float) -> float:
        """Return the highest rate whose modelled p99 lies within a bound; 0 where none does."""
        low, high = 0.0, 0.98 * self.capacity_per_s
        for _ in range(_STEPS):
            middle = (low + high) / 2
            p99 = self.at(middle)[1]
            low, high = (middle, high) if p99 is not None and p99 <= bound_ms else (low, middle)
        return low


def candidates_of(
    rows: Sequence[Row],
    level: ServiceLevel,
    *,
    services: Mapping[str, Service],
    memory_mb: Mapping[str, float | None],
) -> list[Candidate]:
    """Return each target as a candidate.

    Those whose answers were wrong are left out. A row that is invalid because the machine was not
    quiet stays and is marked as provisional: to leave it out would recommend another for its noise.
    """
    single = [row for row in rows if row.scenario == "single-stream" and row.service_sample_ms.size]
    found = []
    for row in (row for row in single if not row.wrong):
        name = row.subject.target
        remote = row.subject.placement == "remote"
        kind, p50, p99 = _latency(name, rows, level, services[name], modelled=_is_modelled(row))
        bound_ms = level.p99_ms
        found.append(
            Candidate(
                target=name,
                kind=kind,
                p50_ms=p50,
                p99_ms=p99,
                highest_rate_per_s=services[name].highest_rate(bound_ms) if bound_ms else None,
                accuracy=row.subject.accuracy,
                memory_mb=memory_mb.get(name),
                bounds=_bounds(level, p99, row.subject.accuracy, memory_mb.get(name)),
                provisional=not row.valid,
                needs=_NEEDS if kind == "modelled" and name != "edge" and not remote else (),
            )
        )
    return found


def _is_modelled(row: Row) -> bool:
    """Return whether a row's latency under load is the model's: a server's on this machine."""
    return row.subject.target != "edge" and row.subject.placement != "remote"


def _latency(
    name: str, rows: Sequence[Row], level: ServiceLevel, service: Service, *, modelled: bool
) -> tuple[str, float | None, float | None]:
    """Return where the latency comes from, its p50 and its p99, at the asked rate."""
    rate = level.rate_per_s
    of_mine = {row.scenario: row for row in rows if row.subject.target == name}
    if rate is None:
        single = of_mine["single-stream"]
        return "measured", single.p50_ms, single.p99_ms
    loaded = of_mine.get("server")
    if not modelled and loaded is not None and loaded.valid and loaded.p99_ms is not None:
        return "measured", loaded.p50_ms, loaded.p99_ms
    return ("modelled", *service.at(rate))


def _bounds(
    level: ServiceLevel, p99_ms: float | None, accuracy: float | None, memory_mb: float | None
) -> tuple[Bound, ...]:
    found = []
    for name, limit, value, sign in (
        ("p99_ms", level.p99_ms, p99_ms, 1),
        ("min_accuracy", level.min_accuracy, accuracy, -1),
        ("max_memory_mb", level.max_memory_mb, memory_mb, 1),
    ):
        if limit is None:
            continue
        margin = None if value is None else sign * (limit - value) / limit
        found.append(Bound(name=name, limit=limit, found=value, margin=margin))
    if level.rate_per_s is not None and level.p99_ms is None:
        # A queue that grows without end has no p99: the rate alone is a bound too.
        kept = None if p99_ms is None else 0.0
        margin = -1.0 if kept is None else 0.0
        found.append(Bound(name="rate_per_s", limit=level.rate_per_s, found=kept, margin=margin))
    return tuple(found)
