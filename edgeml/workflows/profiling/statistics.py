"""What a Triton server says of a model's requests: totals, of which only differences are used.

Its totals hold the warm-up and whatever was asked before. So they are read before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from edgeml.errors import ServerError
from edgeml.workflows.profiling.http_caller import HttpCaller

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output", "success")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts and nanoseconds of one model, all versions together."""

    counts: Mapping[str, int]
    ns: Mapping[str, int]
    executions: int

    def since(self, before: Totals) -> dict[str, float]:
        """Return mean milliseconds of a request between two readings, by part; empty for none."""
        found = {}
        for name in _PARTS:
            count = self.counts[name] - before.counts[name]
            if count <= 0:
                return {}
            found[name] = (self.ns[name] - before.ns[name]) / count / 1e6
        return found


def read_totals(url: str, model: str) -> Totals:
    """Read a model's statistics over HTTP.

    Raises:
        ServerError: The server does not answer, or not with statistics.
    """
    caller = HttpCaller(url)
    try:
        rows = caller.get(f"/v2/models/{quote(model, safe='')}/stats")["model_stats"]
        return _sum(rows)
    except (KeyError, TypeError, ValueError) as exc:
        raise ServerError(f"its statistics cannot be read ({exc!r})", url=url) from exc
    finally:
        caller.close()


def _sum(rows: list[Mapping[str, Any]]) -> Totals:
    counts, ns = dict.fromkeys(_PARTS, 0), dict.fromkeys(_PARTS, 0)
    for row in rows:
        for name in _PARTS:
            counts[name] += int(row["inference_stats"][name]["count"])
            ns[name] += int(row["inference_stats"][name]["ns"])
    executions = sum(int(row.get("execution_count", 0)) for row in rows)
    return Totals(counts=counts, ns=ns, executions=executions)
