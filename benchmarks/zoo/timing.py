"""The clock: one process a member, everybody in turns on one sample and one thread."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers import conditions
from benchmarks.peers.process import ONE_THREAD, ROOT, PeerError
from benchmarks.zoo.catalogue import FP32, NNCF, OPENVINO_FP32, RECIPES
from benchmarks.zoo.making import DATA, read_or_none, write_whole
from benchmarks.zoo.opening import Call, open_file
from benchmarks.zoo.peers import PEERS, file_of
from benchmarks.zoo.recipes.job import feeds_of, read_inputs
from benchmarks.zoo.searching import SEARCH, bundle_of, open_bundle, open_variant
from edgeml.core.files import sha256_of
from edgeml.core.timing import Latency, TimingPlan, compare_latency

TIMING = "timing.json"
OURS_ORT, OURS_ANY, OURS_FP32 = "ours_ort", "ours_any", "ours_fp32"
# The same file as ``ours_ort`` through ``edgeml.load``, which checks every feed.
OURS_CHECKED = "ours_checked"
NNCF_FIXED = "nncf_batch_of_one"
_PLAN = TimingPlan(rounds=40, calls=4, budget_s=60.0)
_TIMEOUT_S = 1800.0
# Whom our choice among engines is compared with, apart from what it chose.
_AGAINST_ANY = (FP32, OPENVINO_FP32, NNCF)


def time_member(folder: Path, *, again: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Time a member in a process of its own unless that was done, and return the figures.

    Args:
        folder: Its folder, with ``search.json`` and ``peers.json``.
        again: Whether figures of the same files are taken anew.
        say: Takes progress.

    Raises:
        PeerError: The process failed.
    """
    key = _key(folder)
    found = read_or_none(folder / TIMING)
    if found is not None and found["key"] == key and not again:
        return found
    say(f"{folder.name}: timing")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.zoo.timing", str(folder.resolve())],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise PeerError(f"timing did not end within {_TIMEOUT_S:g} s") from exc
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PeerError((lines or ["timing failed"])[-1])
    found = read_or_none(folder / TIMING)
    assert found is not None
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Time everybody, and return the figures.

    ``ours_ort`` is the baseline of the first run; where the search among engines chose something
    else, that is the baseline of a second one. A competitor's ``faster_by`` is its time over ours.
    """
    search, peers = read_or_none(folder / SEARCH), read_or_none(folder / PEERS)
    assert search is not None
    assert peers is not None
    feed = next(feeds_of(read_inputs(folder / DATA), range(1)))
    calls = {
        OURS_ORT: open_variant(bundle_of(folder, "ort")),
        OURS_FP32: open_variant(bundle_of(folder, "ort"), "fp32"),
        OURS_CHECKED: open_bundle(bundle_of(folder, "ort")),
        **_peers(folder, peers),
    }
    before = conditions.load()
    runs = {OURS_ORT: _compare(calls, feed, baseline=OURS_ORT)}
    if same_choice(search):
        runs[OURS_ANY] = runs[OURS_ORT]
    else:
        rivals = {name: calls[name] for name in _AGAINST_ANY if name in calls}
        ours = open_variant(bundle_of(folder, "any"))
        runs[OURS_ANY] = _compare({OURS_ANY: ours, **rivals}, feed, baseline=OURS_ANY)
    load = {"load_before": before, "load_after": conditions.load()}
    return {"key": _key(folder), "plan": asdict(_PLAN), **load, "runs": runs}


def same_choice(search: Mapping[str, Any]) -> bool:
    """Return whether both searches chose the same file for the same engine."""
    keys = ("file_sha256", "engine", "engine_options")
    return all(search["ort"][key] == search["any"][key] for key in keys)


def ratio_of(latency: Latency) -> dict[str, Any]:
    """Return how many times as long as the baseline a competitor takes, with its interval."""
    return {
        "p50_ms": latency.p50_ms,
        "faster_by": 1.0 / latency.speedup,
        "low": 1.0 / latency.speedup_high,
        "high": 1.0 / latency.speedup_low,
        "stable": latency.stable,
        "num_calls": latency.num_calls,
    }


def _peers(folder: Path, peers: Mapping[str, Any]) -> dict[str, Call]:
    """Open what can be compared: whatever passes its gate, and NNCF for information."""
    calls = {}
    for name, row in peers.items():
        if row["made"] and (row["passed"] or name == NNCF):
            calls[name] = open_file(file_of(folder, RECIPES[name]), RECIPES[name].engine)
    if NNCF in calls:
        file = file_of(folder, RECIPES[NNCF])
        calls[NNCF_FIXED] = open_file(file, RECIPES[NNCF].engine, batch_of_one=True)
    return calls


def _compare(calls: Mapping[str, Call], feed: Mapping[str, Any], *, baseline: str):
    bound: dict[str, Callable[[], object]] = {
        name: lambda call=call: call(feed) for name, call in calls.items()
    }
    rows = compare_latency(bound, baseline=baseline, plan=_PLAN)
    return {name: ratio_of(row) for name, row in rows.items()}


def _key(folder: Path) -> str:
    return sha256_of(folder / SEARCH) + sha256_of(folder / PEERS)


def main() -> None:
    """Measure one member and write its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo.timing", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_whole(folder / TIMING, measure(folder))


if __name__ == "__main__":
    main()
