"""Kill, hang and cut off a real Triton under load, with a fallback before it.

``python -m benchmarks.resilience faults [--fault NAME] [--repeats N] [--out FILE]``

For each fault, several times: start a server, let independent users ask a fallback for one picture
each, at random times, harm the server, and see who answered, how long it took, and how soon the
server answered again once it was well. Well means: a golden request of somebody else is answered.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.resilience.fault_kinds import FAULTS, Fault, Harmed
from benchmarks.resilience.health import wait_until_well
from benchmarks.resilience.proxy import Proxy
from edgeml.bench.arrivals import poisson
from edgeml.bench.record import Outcome, Record
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.targets import TargetSpec
from edgeml.bench.validity import Limits, judge
from edgeml.core.bundle import Bundle
from edgeml.errors import InputError, MeasurementError
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import TritonServer, start_triton

MODEL = "served"
WINDOW_S = (-1.0, 10.0)  # the requests that are looked at: sent so long before and after
P99_MS = 500.0
BACK_S = 5.0
# A response is counted from the time at which it was due, so that lag adds to it: what is judged
# here is half a second, and a generator that is late by 1 % of it is late.
_LIMITS = Limits(max_lag_ms=0.01 * P99_MS, max_spread=float("inf"))


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What one repetition showed.

    Attributes:
        num_calls: Calls in the window.
        num_failed: Of all calls of the run, those without an answer.
        num_wrong: Answers that were not the expected ones.
        p50_ms: Of the window, from due to done.
        p99_ms: Of the window.
        worst_ms: Of the window.
        on_edge: Share of the window's answers that the edge gave.
        away_s: From the harm until a stranger's golden request was answered again.
        back_s: From then until the server answered a call; None where it did not in this run.
        lag_p99_ms: How late the generator was.
        valid: Whether the generator kept its schedule.
        reason: Why not.
    """

    num_calls: int
    num_failed: int
    num_wrong: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    on_edge: float
    away_s: float
    back_s: float | None
    lag_p99_ms: float
    valid: bool
    reason: str

    @property
    def good(self) -> bool:
        """Whether it is what was wanted."""
        quick = self.p99_ms <= P99_MS and self.back_s is not None and self.back_s <= BACK_S
        return quick and not self.num_failed and not self.num_wrong


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one repetition is made.

    Attributes:
        rate_per_s: Calls a second, at random times.
        seed: Of the times.
        lead_s: Load before the harm.
        harm_s: How long a harm lasts that no supervisor ends.
        tail_s: Load after the harm began.
    """

    rate_per_s: float = 50.0
    seed: int = 0
    lead_s: float = 2.5
    harm_s: float = 5.0
    tail_s: float = 14.0


def measure(fault: Fault, bundle: Bundle, plan: Plan) -> Outcomes:
    """Start a server, harm it under load, and say what its users saw."""
    with tempfile.TemporaryDirectory(prefix="edgeml-faults-") as name:
        publish_bundle(bundle, name, name=MODEL, policy="forbidden")
        with start_triton(name, supervised=fault.heal is None) as server:
            return measure_at(server, fault, bundle, plan)


def measure_at(server: TritonServer, fault: Fault, bundle: Bundle, plan: Plan) -> Outcomes:
    """Harm a server that serves the bundle as ``served``, under load, and say what users saw."""
    with (
        tempfile.TemporaryDirectory(prefix="edgeml-faults-") as name,
        Proxy(int(server.grpc.rsplit(":", 1)[1])) as proxy,
    ):
        url = f"grpc://127.0.0.1:{proxy.port}" if fault.through_proxy else server.grpc
        diary = Path(name) / "diary.json"
        options = {"url": url, "model": MODEL, "bundle": str(bundle.path), "diary": str(diary)}
        story = _Story(
            fault,
            Harmed(server=server, proxy=proxy, model=MODEL),
            plan,
            well=lambda: wait_until_well(url, MODEL, bundle, within_s=plan.tail_s),
            ready=diary.with_suffix(".ready"),
        )
        schedule = poisson(
            plan.rate_per_s,
            num_queries=int(plan.rate_per_s * (plan.lead_s + plan.tail_s)),
            seed=plan.seed,
        )
        record = run(
            TargetSpec(
                factory="benchmarks.resilience.fault_target:fallback_target", options=options
            ),
            Server(schedule=schedule, callers=64),
        )
        story.join()
        return _outcomes(record, story, json.loads(diary.read_text(encoding="utf-8")))


class _Story(threading.Thread):
    """Harms the server while the load runs, and notes when a stranger finds it well again."""

    def __init__(
        self,
        fault: Fault,
        harmed: Harmed,
        plan: Plan,
        *,
        well: Callable[[], int],
        ready: Path,
    ) -> None:
        super().__init__(daemon=True)
        self._fault = fault
        self._harmed = harmed
        self._plan = plan
        self._well = well
        self._ready = ready
        self.harmed_ns = 0
        self.well_ns = 0
        self.start()

    def run(self) -> None:
        end = time.monotonic() + 60
        while not self._ready.exists():
            if time.monotonic() > end:
                return
            time.sleep(0.02)
        time.sleep(self._plan.lead_s)
        self.harmed_ns = time.perf_counter_ns()
        self._fault.harm(self._harmed)
        if self._fault.heal is not None:
            time.sleep(self._plan.harm_s)
            self._fault.heal(self._harmed)
        else:
            time.sleep(0.2)  # until the harm can be seen
        self.well_ns = self._well()


def _outcomes(record: Record, story: _Story, diary: dict[str, Any]) -> Outcomes:
    if not story.well_ns:
        raise MeasurementError("the server was not well again; one that comes back was expected")
    since_s = (record.due_ns - story.harmed_ns) / 1e9
    inside = (since_s >= WINDOW_S[0]) & (since_s <= WINDOW_S[1])
    response = record.response_ms[inside]
    times = np.array([row[0] for row in diary["answers"]], dtype=np.int64)
    by_server = np.array([row[1].startswith("triton") for row in diary["answers"]])
    during = (times >= story.harmed_ns + WINDOW_S[0] * 1e9) & (
        times <= story.harmed_ns + WINDOW_S[1] * 1e9
    )
    after = times[by_server & (times >= story.well_ns)]
    verdict = judge(record, limits=_LIMITS)
    return Outcomes(
        num_calls=int(inside.sum()),
        num_failed=len(record) - record.count(Outcome.OK),
        num_wrong=record.num_wrong,
        p50_ms=_quantile(response, 0.5),
        p99_ms=_quantile(response, 0.99),
        worst_ms=float(response.max()),
        on_edge=float(1 - by_server[during].mean()),
        away_s=round((story.well_ns - story.harmed_ns) / 1e9, 2),
        back_s=round((after[0] - story.well_ns) / 1e9, 2) if after.size else None,
        lag_p99_ms=_quantile(record.send_lag_ms, 0.99),
        valid=not verdict.late,
        reason=verdict.reason,
    )


def _quantile(values: Any, share: float) -> float:
    """Return a quantile that was seen, not one between two that were."""
    return round(float(np.quantile(values, share, method="higher")), 2)


def main(argv: Sequence[str]) -> int:
    """Run the faults and print one JSON object; 1 where one is not as it shall be."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__.split("\n")[0])
    parser.add_argument("--fault", choices=[fault.name for fault in FAULTS], action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--bundle", default="artifacts/clothing/bundle")
    parser.add_argument("--out", type=Path, help="JSON file; rows of other faults in it are kept")
    asked = parser.parse_args(argv)
    if asked.repeats < 1 or not asked.rate > 0:
        raise InputError(f"--repeats {asked.repeats} --rate {asked.rate}: positive was expected")
    bundle = Bundle.read(asked.bundle)
    chosen = [fault for fault in FAULTS if not asked.fault or fault.name in asked.fault]
    rows = {}
    for fault in chosen:
        found = []
        for seed in range(asked.repeats):
            plan = Plan(rate_per_s=asked.rate, seed=seed)
            found.append(measure(fault, bundle, plan))
            sys.stderr.write(f"{fault.name} {seed}: {json.dumps(asdict(found[-1]))}\n")
        rows[fault.name] = _row(fault, found, rate_per_s=asked.rate)
    if asked.out is not None:
        before = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
        asked.out.write_text(json.dumps({**before, **rows}, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(rows) + "\n")
    return 0 if all(row["good"] for row in rows.values()) else 1


def _row(fault: Fault, found: Sequence[Outcomes], *, rate_per_s: float) -> dict[str, Any]:
    valid = [one for one in found if one.valid]
    back = [np.inf if one.back_s is None else one.back_s for one in valid]
    return {
        "words": fault.words,
        "rate_per_s": rate_per_s,
        "good": bool(valid) and all(one.good for one in valid),
        "num_valid": len(valid),
        "num_failed": sum(one.num_failed for one in found),
        "p99_ms": _middle_and_worst([one.p99_ms for one in valid]),
        "back_s": _middle_and_worst(back),
        "repetitions": [asdict(one) for one in found],
    }


def _middle_and_worst(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": float(np.median(values)), "worst": float(max(values))}
