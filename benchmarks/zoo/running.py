"""The steps over all members; a member that fails is named, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.peers import conditions
from benchmarks.peers.process import PeerError
from benchmarks.zoo.making import ABOUT, make_member, read_or_none
from benchmarks.zoo.members import MEMBERS
from benchmarks.zoo.peers import PEERS, make_peers
from benchmarks.zoo.searching import ENGINE_SETS, SEARCH, search
from benchmarks.zoo.table import member_row, summary
from benchmarks.zoo.timing import TIMING, time_member
from edgeml.errors import EdgemlError

Step = Literal["peers", "search", "table"]
STEPS: tuple[Step, ...] = ("peers", "search", "table")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to do.

    Attributes:
        members: Names.
        steps: Which steps, beside building.
        folder: Where members have their folders.
        budget: What ``edgeml export --budget`` takes.
        retime: Whether latencies are taken again.
    """

    members: tuple[str, ...]
    steps: tuple[Step, ...]
    folder: Path
    budget: str
    retime: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.members if name not in MEMBERS]
        if unknown or not self.members:
            raise ValueError(f"no member is called {unknown}; known: {', '.join(MEMBERS)}")


def run(settings: Settings, *, say: Callable[[str], None]) -> dict[str, str]:
    """Do the steps, member by member, and return who failed and why."""
    failed: dict[str, str] = {}
    for step in ("members", *settings.steps):
        for name in settings.members:
            if name in failed:
                continue
            try:
                _do(step, name, settings, say)
            except (PeerError, EdgemlError, ValueError, RuntimeError, OSError) as exc:
                failed[name] = str(PeerError(f"{step}: {exc}"))
                say(f"{name}: {failed[name]}")
    return failed


def collect(settings: Settings, failed: Mapping[str, str]) -> dict[str, Any]:
    """Gather what the folders hold, for all members that have every figure."""
    rows, members, peers, timings = [], {}, {}, []
    missing = dict(failed)
    for name in settings.members:
        files = [read_or_none(settings.folder / name / file) for file in _FILES]
        if name in missing:
            continue
        if any(file is None for file in files) or not set(ENGINE_SETS) <= set(files[1] or {}):
            missing[name] = "not measured yet"
            continue
        about, found, peer_rows, timing = (file or {} for file in files)
        rows.append(member_row(about, found, peer_rows, timing))
        members[name], peers[name] = about, peer_rows
        timings.append(timing)
    return {
        "machine": conditions.machine(),
        "commit": conditions.commit(),
        "plan": timings[0]["plan"] if timings else None,
        "highest_load": _highest(timings),
        "rows": rows,
        "summary": summary(rows),
        "members": members,
        "peers": peers,
        "timings": {row["member"]: timing for row, timing in zip(rows, timings, strict=True)},
        "missing": missing,
    }


_FILES = (ABOUT, SEARCH, PEERS, TIMING)


def _do(step: str, name: str, settings: Settings, say: Callable[[str], None]) -> None:
    folder, member = settings.folder / name, MEMBERS[name]
    if step == "members" and not (folder / ABOUT).is_file():
        say(f"{name}: building")
    about = make_member(member, folder)
    key = about["model_sha256"] + about["data_sha256"]
    if step == "peers":
        make_peers(member, folder, model_sha256=key, say=say)
    elif step == "search":
        search(member, folder, model_sha256=key, budget=settings.budget, say=say)
    elif step == "table":
        lacking = [file for file in (SEARCH, PEERS) if not (folder / file).is_file()]
        if lacking:
            raise PeerError(f"there is no {' and no '.join(lacking)}; run those steps first")
        time_member(folder, again=settings.retime, say=say)


def _highest(timings: Sequence[Mapping[str, Any]]) -> float | None:
    loads = [row[key][0] for row in timings for key in ("load_before", "load_after")]
    return max(loads, default=None)
