"""What the generator and its client cost by themselves: the same client against a null server.

No latency below its client's floor can be measured, and a difference of that size between two rows
is a difference between clients. So the floor stands in every report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The cost of a client.

    Attributes:
        client: The client, such as ``raw-http``.
        server: What it talked to, such as ``null server``.
        p50_us: Median of its calls; None where it was not measured.
        p99_us: 99th percentile; None where it was not measured.
        num_queries: Calls counted.
        reason: Why it was not measured; empty where it was.
    """

    client: str
    server: str = ""
    p50_us: float | None = None
    p99_us: float | None = None
    num_queries: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the floor as JSON values."""
        return {
            "client": self.client,
            "server": self.server,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "num_queries": self.num_queries,
            "reason": self.reason,
        }
