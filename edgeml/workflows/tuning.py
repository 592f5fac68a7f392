"""Choose the fastest way to run a bundle on this very machine, and keep it beside the bundle.

An export proves variants on the machine that exports. A device has another processor, other
engines and other threads to spare; here it compares what it has, with nothing but the base
installation. What is loaded today stays unless another is proven faster, and whatever does not
give the export's golden answers is left out by name.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeml.core.bundle import GOLDEN, Bundle
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.errors import BundleError, InputError, IntegrityError
from edgeml.runtime.host import available_threads, check_threads
from edgeml.runtime.host_profile import Setup, write_profile
from edgeml.workflows.loading import default_setup
from edgeml.workflows.screening import Feed, Look, look_at, opened, setups_of, without_arena

_LOOK_SHARE = 0.4  # of the budget; the comparison has the rest
_MAX_FINALISTS = 4
_TURN_MS = 20.0  # longer than idle threads of a neighbour spin
_MAX_CALLS, _MIN_ROUNDS, _MAX_ROUNDS = 200, 9, 60
_AS_FAST = 0.98
# Two sessions of one setup differ by a per cent or two, provably: their memory lies elsewhere.
_WORTH_IT = 1.03


@dataclass(frozen=True, kw_only=True)
class TunedRow:
    """One setup, and what was found of it.

    Attributes:
        setup: How the bundle was run.
        golden: Whether its answers are the export's; None where it was not run.
        p50_ms: Median latency of one sample; None where it was left out.
        latency: Its latency beside today's; None where it was not compared.
        chosen: Whether ``edgeml.load`` will use it.
        reason: Why it was not compared; empty where it was.
    """

    setup: Setup
    golden: bool | None
    p50_ms: float | None
    latency: Latency | None = None
    chosen: bool = False
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        compared = self.latency
        return {
            **self.setup.to_json(),
            "p50_ms": self.p50_ms,
            "speedup": compared.speedup if compared else None,
            "speedup_low": compared.speedup_low if compared else None,
            "speedup_high": compared.speedup_high if compared else None,
            "golden": self.golden,
            "chosen": self.chosen,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What :func:`tune` found.

    Attributes:
        bundle: The bundle's folder.
        profile: The file that it wrote.
        baseline: What is run without a profile; speedups refer to it.
        chosen: What will be run.
        rows: Every setup: compared ones first, the fastest leading.
    """

    bundle: Path
    profile: Path
    baseline: Setup
    chosen: Setup
    rows: tuple[TunedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "bundle": str(self.bundle),
            "profile": str(self.profile),
            "baseline": self.baseline.to_json(),
            "chosen": self.chosen.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }


def tune(
    bundle: str | Path | Bundle,
    *,
    threads: Sequence[int] | None = None,
    budget_s: float = 60.0,
    progress: Progress = silent,
) -> Tuning:
    """Find the fastest variant, engine and settings on this machine, and keep them.

    Accepted variants run with every engine installed, several numbers of threads, with and without
    spinning and arena. Those that give the golden answers are timed in turns, on one golden sample,
    beside what :func:`edgeml.load` runs today; the fastest that is proven faster is chosen. The
    result is written beside the bundle, and ``edgeml.load`` follows it on this machine alone.

    Args:
        bundle: The bundle's folder; nothing in it changes.
        threads: Numbers of threads to try; None tries 1, 2, 4, ... and all that this machine
            allows.
        budget_s: About how long it may take, in seconds; what no time is left for is named.
        progress: Called with what is being done.

    Returns:
        The choice, the figures, and the profile's place.

    Raises:
        InputError: An argument is wrong.
        BundleError: This is no readable bundle, or it has no golden examples.
        IntegrityError: A file is damaged, or what is loaded today does not give the golden answers.
        HostError: The profile cannot be written.
    """
    counts = _thread_counts(threads)
    if not (math.isfinite(budget_s) and budget_s > 0):
        raise InputError(f"budget_s is {budget_s}; seconds above 0 were expected", got=budget_s)
    start = time.perf_counter()
    source = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    feed = _one_sample(source)
    baseline = default_setup(source, None, num_threads=available_threads())
    setups = [baseline, *(row for row in setups_of(source, counts) if row != baseline)]
    share = budget_s * _LOOK_SHARE
    looks = look_at(source, setups, feed, budget_s=share, progress=progress)
    if looks[0].p50_ms is None:
        reason = f"what is loaded today cannot be tuned: {looks[0].reason}; run 'edgeml verify'"
        raise IntegrityError(path=str(source.path), reason=reason)
    finalists = _finalists(looks)
    left_s = max(budget_s - (time.perf_counter() - start), budget_s * (1 - _LOOK_SHARE) / 2)
    progress(ProgressEvent(stage="compare", done=0, total=1, note=f"{len(finalists)} setups"))
    compared = _compare(source, finalists, feed, budget_s=left_s)
    chosen = choose(compared, baseline)
    progress(ProgressEvent(stage="compare", done=1, total=1, note=chosen.describe()))
    rows = _rows(looks, compared, chosen)
    profile = write_profile(source, chosen, [row.to_json() for row in rows])
    return Tuning(bundle=source.path, profile=profile, baseline=baseline, chosen=chosen, rows=rows)


def choose(compared: Mapping[Setup, Latency], baseline: Setup) -> Setup:
    """Return the fastest setup that is proven faster than the baseline, else the baseline.

    Faster means that the whole interval of the speedup lies above 1.03. Of several within two per
    cent of the fastest, the one that asks least of the machine is taken.

    Args:
        compared: Each setup's latency beside the baseline's.
        baseline: What is run today.
    """
    faster = {
        setup: row.speedup
        for setup, row in compared.items()
        if row.proven_faster and row.speedup_low >= _WORTH_IT
    }
    if not faster:
        return baseline
    enough = _AS_FAST * max(faster.values())
    near = [setup for setup, speedup in faster.items() if speedup >= enough]
    return min(near, key=lambda row: (row.threads, row.spinning, not row.arena, -faster[row]))


def _thread_counts(threads: Sequence[int] | None) -> list[int]:
    if threads is None:
        most = available_threads()
        return sorted({*(2**power for power in range(most.bit_length())), most})
    if not threads:
        raise InputError("threads is empty; one number or more was expected; leave it out or fill")
    return sorted({check_threads(count) for count in threads})


def _one_sample(bundle: Bundle) -> Feed:
    """Return the first golden sample."""
    if GOLDEN not in bundle.manifest.files:
        reason = "it has no golden examples, which answers are compared with; export it again"
        raise BundleError(path=str(bundle.path), reason=reason)
    return {name: array[:1].copy() for name, array in bundle.golden().tensors.items()}


def _finalists(looks: Sequence[Look]) -> dict[Setup, float]:
    """Return what is worth a comparison, the baseline first, with its milliseconds so far."""
    first, *others = ((row.setup, row.p50_ms) for row in looks if row.p50_ms is not None)
    best = sorted(others, key=lambda row: row[1])[:_MAX_FINALISTS]
    found = dict([first, *best])
    twins = [(without_arena(setup), ms) for setup, ms in found.items()]
    return {**found, **{twin: ms for twin, ms in twins if twin is not None}}


def _compare(
    bundle: Bundle, finalists: Mapping[Setup, float], feed: Feed, *, budget_s: float
) -> dict[Setup, Latency]:
    """Time setups in turns; the first is the baseline."""
    calls = max(1, min(_MAX_CALLS, math.ceil(_TURN_MS / max(min(finalists.values()), 1e-3))))
    round_s = calls * sum(finalists.values()) / 1000
    rounds = max(_MIN_ROUNDS, min(_MAX_ROUNDS, int(budget_s / round_s)))
    plan = TimingPlan(rounds=rounds, calls=calls, warmup=min(3, calls), budget_s=budget_s)
    competitors: dict[str, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack:
        for setup in finalists:
            engine = stack.enter_context(opened(bundle, setup))
            competitors[setup.describe()] = partial(engine.run, feed)
        baseline = next(iter(finalists)).describe()
        latencies = compare_latency(competitors, baseline=baseline, plan=plan)
    return {setup: latencies[setup.describe()] for setup in finalists}


def _rows(
    looks: Sequence[Look], compared: Mapping[Setup, Latency], chosen: Setup
) -> tuple[TunedRow, ...]:
    final = [
        TunedRow(setup=setup, golden=True, p50_ms=row.p50_ms, latency=row, chosen=setup == chosen)
        for setup, row in compared.items()
    ]
    final.sort(key=lambda row: -row.latency.speedup if row.latency else 0.0)
    rest = [
        TunedRow(
            setup=look.setup,
            golden=look.golden,
            p50_ms=look.p50_ms,
            reason=look.reason or "not compared: others were faster at a first look",
        )
        for look in looks
        if look.setup not in compared
    ]
    return (*final, *rest)
