"""The index at a million items: recall, latency, memory, filters, churn and growth.

``python -m benchmarks.recommender.index_scale --cache DIR`` builds what DIR lacks (some minutes),
measures, and prints the tables of docs/results/recommender-index.md. ``--only build`` and ``--only
measure`` separate the two, so that the machine can be left alone while it is timed.

Vectors: 2,000 centres from N(0, 1)^64; items and queries are a centre plus N(0, 1), at length 1;
seeds 7, 1 and 2. Probes are tuned on 200 other queries (seed 3), never on those reported.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.recommending.index.choosing import (
    choose_spec,
    recall_of,
    searching,
    tune,
)
from edgeml.recommending.index.item_index import ItemIndex
from edgeml.recommending.index.spec import IndexKind, IndexSpec, VectorCode, num_lists_for
from edgeml.recommending.index.storing import load_index, save_index
from edgeml.runtime.host import available_threads

DIMENSION, CENTRES, RESULTS, QUERIES = 64, 2_000, 500, 1_000
MILLION, SMALL = 1_000_000, 100_000
SHARES = {"none": 1.0, "10 %": 0.1, "1 %": 0.01}
TUNED_RECALL = 0.955  # on other queries, so that 0.95 holds on those reported
_EXACT = IndexSpec(kind=IndexKind.FLAT)
# Turns are long, so that what the exact search threw out of the caches is back in.
_PLAN = TimingPlan(rounds=5, calls=40, warmup=5, budget_s=40.0)
_BLOCK = 100_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    items: int
    state: str
    filter: str
    way: str
    recall: float
    p50_ms: float
    p90_ms: float
    exact_p50_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float


def clustered(count: int, *, seed: int) -> npt.NDArray[np.float32]:
    """Return vectors around the common centres, float32 ``(count, 64)``, at length 1."""
    centres = np.random.default_rng(7).standard_normal((CENTRES, DIMENSION)).astype(np.float32)
    rng = np.random.default_rng(seed)
    which = rng.integers(0, CENTRES, count)
    vectors = np.empty((count, DIMENSION), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        noise = rng.standard_normal((rows.stop - start, DIMENSION), dtype=np.float32)
        vectors[rows] = centres[which[rows]] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def mask(share: float, size: int) -> npt.NDArray[np.bool_] | None:
    """Return a random filter by id, or None for no filter."""
    return None if share == 1 else np.random.default_rng(11).random(size) < share


def churned() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ids that leave and ids that come: a fifth of a million each."""
    gone = np.random.default_rng(13).choice(MILLION, MILLION // 5, replace=False)
    return np.sort(gone), np.arange(MILLION, MILLION + MILLION // 5)


def churn(index: ItemIndex) -> tuple[float, float]:
    """Remove and add a fifth; return the seconds of each."""
    gone, come = churned()
    vectors = clustered(come.size, seed=5)
    start = time.perf_counter()
    index.remove(gone)
    removed = time.perf_counter()
    index.add(come, vectors)
    return removed - start, time.perf_counter() - removed


def build(cache: Path) -> None:
    """Build and tune every index, and find the exact results, where the cache lacks them."""
    cache.mkdir(parents=True, exist_ok=True)
    queries, tuning = clustered(QUERIES, seed=2), clustered(200, seed=3)
    for size in (SMALL, MILLION):
        vectors = clustered(size, seed=1)
        exact = ItemIndex.build(vectors, spec=_EXACT, num_threads=available_threads())
        reference = exact.search(tuning, RESULTS).ids
        bytewise = IndexSpec(
            kind=IndexKind.IVF,
            codes=VectorCode.UINT8,
            stored=VectorCode.UINT8,
            num_lists=num_lists_for(size),
            num_probes=1,
        )
        packed = replace(bytewise, codes=VectorCode.PQ4, candidates_per_result=3.0)
        for spec in (packed, bytewise):
            folder = cache / f"{size}-{spec.codes}"
            if folder.exists():
                continue
            start = time.perf_counter()
            index = ItemIndex.build(vectors, spec=spec, num_threads=available_threads())
            seconds = time.perf_counter() - start
            folder.mkdir()
            save_index(tune(index, tuning, RESULTS, reference, TUNED_RECALL), folder)
            say(f"{folder.name}: built in {seconds:.0f} s")
        for state in ("built", "churned"):
            if size == SMALL and state == "churned":
                continue
            if state == "churned":
                churn(exact)
            _save_references(cache / f"{size}-{state}.npz", exact, queries)


def _save_references(path: Path, exact: ItemIndex, queries: npt.NDArray[np.float32]) -> None:
    if path.exists():
        return
    largest = int(exact.ids.max()) + 1
    found = {
        name: exact.search(queries, RESULTS, allowed=mask(share, largest)).ids
        for name, share in SHARES.items()
    }
    np.savez(path, **found)
    say(f"{path.name}: exact results found")


def measure(cache: Path, *, codes: VectorCode) -> tuple[list[Row], list[str]]:
    """Time and score one kind of lists at both sizes; return rows and remarks."""
    rows, remarks = [], []
    for size in (SMALL, MILLION):
        vectors = clustered(size, seed=1)
        exact = ItemIndex.build(vectors, spec=_EXACT)
        index = load_index(cache / f"{size}-{codes}", version="")
        remarks.append(
            f"{size:,} items, {index.spec.name}: {index.size_bytes / 1e6:.0f} MB "
            f"(float32 vectors alone {exact.size_bytes / 1e6:.0f} MB)"
        )
        rows += _rows(exact, index, np.load(cache / f"{size}-built.npz"), state="built")
        if size == MILLION:
            removing, adding = churn(index)
            churn(exact)
            remarks.append(
                f"churn: {MILLION // 5:,} removed in {removing:.2f} s, as many added in "
                f"{adding:.1f} s, {index.num_tombstones:,} tombstones, "
                f"{index.size_bytes / 1e6:.0f} MB"
            )
            rows += _rows(exact, index, np.load(cache / f"{size}-churned.npz"), state="churned")
    return rows, remarks


def _rows(
    exact: ItemIndex, index: ItemIndex, references: dict[str, npt.NDArray[np.int64]], *, state: str
) -> list[Row]:
    queries = clustered(QUERIES, seed=2)
    largest = int(index.ids.max()) + 1
    rows = []
    for name, share in SHARES.items():
        allowed = mask(share, largest)
        ways = {"": None} if allowed is None else {"mask": allowed}
        if allowed is not None:
            start = time.perf_counter()
            ways["prepared"] = index.prepare(allowed)
            say(f"{state} {name}: prepared in {time.perf_counter() - start:.2f} s")
        calls = {"exact": searching(exact, queries, RESULTS, allowed=allowed)}
        calls |= {way: searching(index, queries, RESULTS, allowed=ways[way]) for way in ways}
        latencies = compare_latency(calls, baseline="exact", plan=_PLAN)
        for way, given in ways.items():
            found = index.search(queries, RESULTS, allowed=given).ids
            rows.append(
                _row(
                    latencies[way],
                    latencies["exact"],
                    items=index.size,
                    state=state,
                    filter=name,
                    way=way,
                    recall=recall_of(found, references[name]),
                )
            )
            say(str(rows[-1]))
    return rows


def _row(latency: Latency, exact: Latency, **facts: object) -> Row:
    return Row(
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        exact_p50_ms=exact.p50_ms,
        speedup=latency.speedup,
        speedup_low=latency.speedup_low,
        speedup_high=latency.speedup_high,
        **facts,
    )


def say(line: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| items | state | filter | given as | recall | p50 ms | p90 ms | exact, same filter, ms "
        "| faster | 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.items:,} | {row.state} | {row.filter} | {row.way or '-'} | {row.recall:.4f} | "
        f"{row.p50_ms:.2f} | {row.p90_ms:.2f} | {row.exact_p50_ms:.1f} | {row.speedup:.1f}x | "
        f"{row.speedup_low:.1f} to {row.speedup_high:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def kinds() -> str:
    """Return the table of every kind at 100,000 items as Markdown."""
    vectors = clustered(SMALL, seed=1)
    tuning = clustered(100, seed=3)
    threads = available_threads()
    choice = choose_spec(vectors, tuning, k=RESULTS, min_recall=0.95, build_threads=threads)
    lines = ["| index | recall | p50 ms | faster | MB | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.spec.name} | {row.recall:.4f} | {row.p50_ms:.2f} | {row.speedup:.1f}x | "
        f"{row.size_bytes / 1e6:.0f} | {row.reason or 'chosen'} |"
        for row in choice.rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", choices=("build", "measure", "kinds"))
    parser.add_argument("--codes", type=VectorCode, default=VectorCode.PQ4)
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    arguments = parser.parse_args()
    if arguments.only in (None, "build"):
        build(arguments.cache)
    if arguments.only in (None, "measure"):
        rows, remarks = measure(arguments.cache, codes=arguments.codes)
        say("\n".join([table(rows), *remarks]))
        if arguments.out:
            arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if arguments.only in (None, "kinds"):
        say(kinds())


if __name__ == "__main__":
    main()
