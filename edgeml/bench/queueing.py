"""What users would wait on a server of its own: a queue in front of c servers, simulated.

Where generator and server share two cores, the server's figures under load are not those of a host
that it has for itself. Its service times are, roughly: they are measured one query at a time. So
the wait is modelled: arrivals at a rate, first come, first served, the next free one of c servers,
service times drawn from those that were measured. Every figure here is labelled ``modelled``.

What it leaves out: batching, service times that grow with load (caches, memory bandwidth), and
whatever lies between client and server.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.arrivals import Schedule, poisson
from edgeml.errors import InputError

_WARMUP = 0.1  # share of the queries that fill the queue and are not counted


@dataclass(frozen=True, kw_only=True)
class Modelled:
    """Response times of a modelled server.

    Attributes:
        rate_per_s: Arrivals a second.
        servers: Servers that answer one query at a time each.
        utilisation: Share of the time that they are busy.
        p50_ms: Half of the responses take no longer; None where the queue grows without end.
        p90_ms: 90 of 100.
        p99_ms: 99 of 100.
        reason: Why there are no figures.
        kind: Always ``modelled``.
    """

    rate_per_s: float
    servers: int
    utilisation: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    reason: str = ""
    kind: str = "modelled"

    @property
    def stable(self) -> bool:
        """Whether the servers keep up."""
        return self.p99_ms is not None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dict(vars(self))


def model_server(
    service_ms: npt.ArrayLike,
    *,
    rate_per_s: float,
    servers: int = 1,
    num_queries: int = 50_000,
    seed: int = 0,
) -> Modelled:
    """Model the response times of c servers under Poisson arrivals.

    Args:
        service_ms: float ``(measured,)``: service times of single queries.
        rate_per_s: Arrivals a second.
        servers: Servers, or instances that do not slow each other down.
        num_queries: Queries to simulate; the first tenth is not counted.
        seed: Seed of arrivals and draws.

    Raises:
        InputError: The service times are none.

    Example:
        >>> model_server([4.0], rate_per_s=100, servers=1).utilisation
        0.4
    """
    times = np.asarray(service_ms, dtype=np.float64).ravel()
    if not times.size or not np.all(np.isfinite(times)) or np.any(times <= 0):
        raise InputError("the service times are empty, infinite or not positive; finite ones of "
                         "answered queries were expected")  # fmt: skip
    if servers < 1:
        raise InputError(f"{servers} servers were asked for; at least 1 was expected")
    utilisation = rate_per_s * float(times.mean()) / 1e3 / servers
    if utilisation >= 1.0:
        return Modelled(
            rate_per_s=rate_per_s,
            servers=servers,
            utilisation=utilisation,
            p50_ms=None,
            p90_ms=None,
            p99_ms=None,
            reason=f"{100 * utilisation:.0f} % of the servers' time is asked for: the queue grows "
            "without end",
        )
    schedule = poisson(rate_per_s, num_queries=num_queries, seed=seed)
    drawn = np.random.default_rng([seed, 1]).choice(times, size=num_queries)
    response = simulate_queue(schedule, drawn, servers=servers)[int(_WARMUP * num_queries) :]
    p50, p90, p99 = (float(value) for value in np.quantile(response, [0.5, 0.9, 0.99]))
    return Modelled(
        rate_per_s=rate_per_s,
        servers=servers,
        utilisation=utilisation,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
    )


def highest_modelled_rate(
    service_ms: npt.ArrayLike, *, bound_ms: float, servers: int = 1, seed: int = 0
) -> float:
    """Return the highest rate at which the modelled p99 lies within a bound; 0 where none does.

    Args:
        service_ms: float ``(measured,)``: service times of single queries.
        bound_ms: Bound on the p99 of the response.
        servers: Servers that answer one query at a time each.
        seed: Seed of arrivals and draws, the same for all rates.
    """
    low, high = 0.0, servers * 1e3 / float(np.mean(np.asarray(service_ms, dtype=np.float64)))
    for _ in range(12):
        rate = (low + high) / 2
        p99 = model_server(service_ms, rate_per_s=rate, servers=servers, seed=seed).p99_ms
        low, high = (rate, high) if p99 is not None and p99 <= bound_ms else (low, rate)
    return low


def simulate_queue(
    schedule: Schedule, service_ms: npt.NDArray[Any], *, servers: int
) -> npt.NDArray[np.float64]:
    """Return the response time of each query, exactly: a discrete-event simulation.

    Args:
        schedule: When queries arrive.
        service_ms: float ``(queries,)``: how long each one keeps a server.
        servers: Servers; a query goes to the first one that is free, in the order of arrival.

    Returns:
        float64 ``(queries,)``: milliseconds from arrival to answer.
    """
    free_at = [0.0] * servers
    response = np.empty(len(schedule))
    for number, (arrival, service) in enumerate(
        zip((schedule.due_ns / 1e6).tolist(), service_ms.tolist(), strict=True)
    ):
        done = max(arrival, free_at[0]) + service
        heapq.heapreplace(free_at, done)
        response[number] = done - arrival
    return response
