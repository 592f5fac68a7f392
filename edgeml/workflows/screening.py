"""What ``edgeml tune`` tries on a machine, and a first look at each setup alone.

The first look only decides what is worth a comparison; no figure of it is ever a claim.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Variant
from edgeml.core.predictor import Engine
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import EdgemlError, HostMismatchWarning, InferenceError
from edgeml.runtime.host_profile import Setup
from edgeml.runtime.opening import installed_engines
from edgeml.workflows.loading import as_set_up, open_engine
from edgeml.workflows.verifying import golden_check

Feed = dict[str, npt.NDArray[Any]]
Clock = Callable[[], float]

_ACCEPTED = ("chosen", "passed", "reference")
_OWN_SETTINGS = "onnxruntime"  # the engine that has spinning and an arena
_WARMUP = 2
_MIN_CALLS, _MAX_CALLS = 3, 30


@dataclass(frozen=True, kw_only=True)
class Look:
    """One setup, looked at alone.

    Attributes:
        setup: What was tried.
        golden: Whether its answers are the export's; None where it was not tried.
        p50_ms: Median of a few calls; None where it was left out.
        reason: Why it was left out; empty where it was not.
    """

    setup: Setup
    golden: bool | None = None
    p50_ms: float | None = None
    reason: str = ""


def setups_of(bundle: Bundle, threads: Sequence[int]) -> list[Setup]:
    """Return what may run a bundle here: variants, engines, threads, spinning.

    A variant's own engine comes first; the other engines installed are tried on the same file. The
    arena is left for later: it is independent of the rest.

    Args:
        bundle: The bundle.
        threads: Numbers of threads to try, ascending.
    """
    rows = [row for row in bundle.manifest.variants if row.verdict in _ACCEPTED]
    rows.sort(key=lambda row: -(row.speedup or 0.0))
    found = []
    for row, engine in _pairs(rows):
        for count in threads:
            setup = Setup(variant=row.name, engine=engine, threads=count)
            found.append(setup)
            if engine == _OWN_SETTINGS and count > 1:
                found.append(replace(setup, spinning=True))
    return found


def without_arena(setup: Setup) -> Setup | None:
    """Return a setup without its arena; None where the engine has none."""
    return replace(setup, arena=False) if setup.engine == _OWN_SETTINGS else None


def look_at(
    bundle: Bundle,
    setups: Sequence[Setup],
    feed: Feed,
    *,
    budget_s: float,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> list[Look]:
    """Open setups one after another, check their golden answers, and time a few calls.

    Args:
        bundle: The bundle.
        setups: What to try; the first is tried whatever it costs.
        feed: One sample.
        budget_s: Time after which nothing further is opened.
        progress: Told of every setup.
        clock: Seconds, monotonic.

    Returns:
        One look a setup, in the given order.
    """
    start, looks = clock(), []
    failed: dict[tuple[str, str], Look] = {}
    for done, setup in enumerate(setups):
        before = failed.get((setup.variant, setup.engine))
        if before is not None:  # more threads would not mend it
            look = Look(setup=setup, golden=before.golden, reason=before.reason)
        elif done and clock() - start > budget_s:
            look = Look(setup=setup, reason="not tried: the budget ended first")
        else:
            look = _look(bundle, setup, feed, budget_s / len(setups))
            if look.golden is not True:
                failed[setup.variant, setup.engine] = look
        looks.append(look)
        note = setup.describe()
        progress(ProgressEvent(stage="try", done=done + 1, total=len(setups), note=note))
    return looks


@contextlib.contextmanager
def opened(bundle: Bundle, setup: Setup) -> Iterator[Engine]:
    """Yield an engine for a setup; one that would run with other threads is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", HostMismatchWarning)
        engine = open_engine(
            bundle,
            as_set_up(bundle, setup),
            num_threads=setup.threads,
            spinning=setup.spinning,
            arena=setup.arena,
        )
    with contextlib.closing(engine):
        yield engine


def _look(bundle: Bundle, setup: Setup, feed: Feed, slice_s: float) -> Look:
    try:
        with opened(bundle, setup) as engine:
            check = golden_check(bundle, as_set_up(bundle, setup), engine)
            if not check.ok:
                return Look(setup=setup, golden=False, reason=f"{check.name}: {check.detail}")
            return Look(setup=setup, golden=True, p50_ms=_quick_ms(engine, feed, slice_s))
    except HostMismatchWarning as exc:
        return Look(setup=setup, reason=str(exc))
    except InferenceError as exc:
        return Look(setup=setup, golden=False, reason=str(exc))
    except EdgemlError as exc:
        return Look(setup=setup, reason=str(exc))


def _quick_ms(engine: Engine, feed: Feed, slice_s: float) -> float:
    for _ in range(_WARMUP):
        engine.run(feed)
    times: list[float] = []
    while len(times) < _MIN_CALLS or (sum(times) < slice_s and len(times) < _MAX_CALLS):
        before = time.perf_counter()
        engine.run(feed)
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1000


def _pairs(rows: Sequence[Variant]) -> list[tuple[Variant, str]]:
    """Return variants with engines, each file with each engine and its options once."""
    engines = installed_engines()
    pairs, seen = [], set()
    own = [(row, row.engine) for row in rows if row.engine in engines]
    others = [(row, name) for row in rows for name in engines if name != row.engine]
    for row, engine in (*own, *others):
        options = row.engine_options if engine == row.engine else {}
        key = (row.file, engine, *sorted(options.items()))
        if key not in seen:
            seen.add(key)
            pairs.append((row, engine))
    return pairs
