"""Which index for these vectors: each kind is built, tuned to the recall asked for, and timed.

Recall is against exhaustive search over the same vectors with the same queries. Latency is one
query at a time, candidates in turns beside exhaustive search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.errors import InputError
from edgeml.recommending.index.item_index import Allowed, ItemIndex
from edgeml.recommending.index.searcher import Searcher
from edgeml.recommending.index.spec import IndexKind, IndexSpec, VectorCode, num_lists_for
from edgeml.recommending.index.store import FloatArray, IntArray

_EXACT = IndexSpec(kind=IndexKind.FLAT)
_MAX_GRAPH = 200_000
_MORE_CANDIDATES = (1.0, 1.5, 2.0, 3.0)
_PLAN = TimingPlan(rounds=12, calls=10, budget_s=20.0)


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One candidate, measured.

    Attributes:
        spec: What it is made of, tuned.
        recall: Share of the exact results that it found.
        p50_ms: Median latency of one query.
        speedup: Exhaustive float32 search over this one, paired.
        size_bytes: Bytes of vectors, codes, lists and ids.
        reason: Why it was not chosen, or an empty string.
    """

    spec: IndexSpec
    recall: float
    p50_ms: float
    speedup: float
    size_bytes: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class IndexChoice:
    """The fastest index that keeps the recall and fits the memory, and the whole table.

    Attributes:
        spec: The choice.
        rows: Every candidate.
    """

    spec: IndexSpec
    rows: tuple[IndexRow, ...]


def choose_spec(
    vectors: FloatArray,
    queries: FloatArray,
    *,
    k: int,
    min_recall: float = 0.95,
    max_size_bytes: int | None = None,
    candidates: Sequence[IndexSpec] | None = None,
    build_threads: int = 1,
) -> IndexChoice:
    """Measure candidates on the vectors at hand and choose.

    Args:
        vectors: float32 ``(items, dimension)``.
        queries: float32 ``(queries, dimension)``: some real ones; a few hundred are enough.
        k: Results of a search.
        min_recall: Share of the exact results that must be found.
        max_size_bytes: Memory that the index may take.
        candidates: Specifications to try; by default one of each kind that suits the size. The
            probes and the breadth are tuned, so what they say does not matter.
        build_threads: Threads for building; searches take one.

    Returns:
        The choice and the table that it rests on.

    Raises:
        InputError: No candidate fits, or the arguments make no sense.
    """
    if not 0 < min_recall <= 1 or len(queries) == 0:
        raise InputError(
            f"recall {min_recall} on {len(queries)} queries; a share above 0 and at least one "
            "query were expected"
        )
    specs = candidates_for(len(vectors), vectors.shape[1]) if candidates is None else candidates
    exact = ItemIndex.build(vectors, spec=_EXACT)
    reference = exact.search(queries, k).ids
    tuned = []
    for spec in specs:
        index = ItemIndex.build(vectors, spec=spec, num_threads=build_threads)
        index.num_threads = 1
        tuned.append(tune(index, queries, k, reference, min_recall))
    rows = _measured(exact, tuned, queries, k, reference, min_recall, max_size_bytes)
    fitting = [row for row in rows if not row.reason]
    if not fitting:
        raise InputError(
            f"no index of these vectors keeps recall {min_recall} in "
            f"{max_size_bytes} bytes; allow more memory or a lower recall"
        )
    best = min(fitting, key=lambda row: row.p50_ms)
    final = tuple(
        row if row.reason or row is best else replace(row, reason="slower") for row in rows
    )
    return IndexChoice(spec=best.spec, rows=final)


def candidates_for(num_vectors: int, dimension: int) -> tuple[IndexSpec, ...]:
    """Return one specification of each kind that suits a size."""
    num_lists = num_lists_for(num_vectors)
    ivf = IndexSpec(kind=IndexKind.IVF, num_lists=num_lists, num_probes=1)
    bytewise = replace(ivf, codes=VectorCode.UINT8, stored=VectorCode.UINT8)
    found = [_EXACT, replace(_EXACT, stored=VectorCode.UINT8)]
    if num_vectors >= 64 * num_lists // 4:
        found += [ivf, bytewise]
        if dimension % 2 == 0:
            found.append(replace(bytewise, codes=VectorCode.PQ4, candidates_per_result=3.0))
    if num_vectors <= _MAX_GRAPH:  # beyond, a graph takes many minutes to build
        found.append(IndexSpec(kind=IndexKind.HNSW, num_links=32, breadth=1))
    return tuple(found)


def tune(
    index: ItemIndex, queries: FloatArray, k: int, reference: IntArray, min_recall: float
) -> ItemIndex:
    """Return the same index with the fewest probes, or the least breadth, that keep the recall.

    Where no number of probes does, more candidates are scored again for each result.

    Args:
        index: A built index.
        queries: float32 ``(queries, dimension)``.
        k: Results of a search.
        reference: int64 ``(queries, k)``: the exact results.
        min_recall: Share of them that must be found.

    Returns:
        The tuned index over the same vectors; where nothing is enough, with the most.
    """
    spec = index.spec
    if spec.kind is IndexKind.FLAT:
        return index
    most = spec.num_lists or 16 * k

    def reading(value: int, more: float) -> ItemIndex:
        if spec.kind is IndexKind.HNSW:
            return respecified(index, replace(spec, breadth=value))
        candidates = spec.candidates_per_result * more
        return respecified(index, replace(spec, num_probes=value, candidates_per_result=candidates))

    def keeps(value: int, more: float) -> bool:
        # Of the structure itself: a whole search would compare everything where it is short.
        searcher = reading(value, more).searcher
        assert searcher is not None
        slots = searcher.search(queries, k)[1]
        return recall_of(np.where(slots >= 0, index.ids[slots], -1), reference) >= min_recall

    # Where reading everything is not enough, the codes' order is at fault: more candidates.
    more = next((m for m in _MORE_CANDIDATES if keeps(most, m)), 1.0)
    return reading(_least(lambda value: keeps(value, more), most), more)


def respecified(index: ItemIndex, spec: IndexSpec) -> ItemIndex:
    """Return an index over the same vectors and structures that searches by another spec."""
    searcher = index.searcher and Searcher(index.searcher.faiss_index, index.store, spec)
    return ItemIndex(
        index.store,
        searcher,
        ids=index.ids,
        alive=index.alive,
        spec=spec,
        version=index.version,
        num_threads=index.num_threads,
    )


def recall_of(found: IntArray, reference: IntArray) -> float:
    """Return the share of the reference's ids that were found, over all queries.

    Args:
        found: int64 ``(queries, k)``.
        reference: int64 ``(queries, k)``; -1 counts for nothing.
    """
    hits = sum(
        np.isin(wanted[wanted >= 0], got).sum()
        for wanted, got in zip(reference, found, strict=True)
    )
    return float(hits / max((reference >= 0).sum(), 1))


def _least(enough: Callable[[int], bool], most: int) -> int:
    """Return the least value that is enough, to within a tenth; ``most`` where none is."""
    high = 1
    while high < most and not enough(high):
        high = min(2 * high, most)
    low = high // 2
    while high - low > max(1, high // 10):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _measured(
    exact: ItemIndex,
    indexes: Sequence[ItemIndex],
    queries: FloatArray,
    k: int,
    reference: IntArray,
    min_recall: float,
    max_size_bytes: int | None,
) -> list[IndexRow]:
    calls = {"exact": searching(exact, queries, k)}
    calls |= {str(place): searching(index, queries, k) for place, index in enumerate(indexes)}
    latencies = compare_latency(calls, baseline="exact", plan=_PLAN)
    rows = []
    for place, index in enumerate(indexes):
        recall = recall_of(index.search(queries, k).ids, reference)
        reason = ""
        if recall < min_recall:
            reason = f"recall below {min_recall:g}"
        elif max_size_bytes is not None and index.size_bytes > max_size_bytes:
            reason = f"larger than {max_size_bytes} bytes"
        latency = latencies[str(place)]
        rows.append(
            IndexRow(
                spec=index.spec,
                recall=recall,
                p50_ms=latency.p50_ms,
                speedup=latency.speedup,
                size_bytes=index.size_bytes,
                reason=reason,
            )
        )
    return rows


def searching(
    index: ItemIndex, queries: FloatArray, k: int, *, allowed: Allowed | None = None
) -> Callable[[], object]:
    """Return a call that searches with the next query, around and around."""
    turns = cycle(range(len(queries)))

    def call() -> object:
        turn = next(turns)
        return index.search(queries[turn : turn + 1], k, allowed=allowed)

    return call
