"""Items by inner product: search under filters, add and remove without building anew.

FAISS does the work. This class keeps what FAISS does not: the ids of items (any int64), which
slots are alive, and the promise that a search is never short while eligible items are left.
For the cosine, give vectors of length 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.index.item_filter import ItemFilter, bitmap_of
from edgeml.recommending.index.searcher import Searcher, train_searcher
from edgeml.recommending.index.spec import IndexKind, IndexSpec, spec_for
from edgeml.recommending.index.store import FloatArray, Hits, IntArray, VectorStore

Allowed = ItemFilter | npt.NDArray[np.bool_] | IntArray
_PREPARED_SHARE = 0.5
_COMPACTION_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Found:
    """Results of a search, best first.

    Attributes:
        ids: int64 ``(queries, k)``; -1 where fewer than k items were eligible.
        scores: float32 ``(queries, k)``: inner products; minus infinity in the same places.
    """

    ids: IntArray
    scores: FloatArray


class ItemIndex:
    """An index of item vectors. Build one with ``ItemIndex.build``, or load one.

    Args:
        store: The vectors, by slot.
        searcher: Structure over the slots, or None for exhaustive search.
        ids: int64 ``(slots,)``: item of each slot.
        alive: bool ``(slots,)``.
        spec: What the index is made of.
        version: Names the model that made the vectors.
        num_threads: Threads of a search.
    """

    def __init__(
        self,
        store: VectorStore,
        searcher: Searcher | None,
        *,
        ids: IntArray,
        alive: npt.NDArray[np.bool_],
        spec: IndexSpec,
        version: str,
        num_threads: int,
    ) -> None:
        self.store, self.searcher, self.spec, self.version = store, searcher, spec, version
        self.ids, self.alive, self.num_threads = ids, alive, num_threads
        self._generation = 0
        self._refresh()

    @classmethod
    def build(
        cls,
        vectors: FloatArray,
        *,
        ids: IntArray | None = None,
        spec: IndexSpec | None = None,
        version: str = "",
        num_threads: int = 1,
    ) -> ItemIndex:
        """Build an index.

        Args:
            vectors: float32 ``(items, dimension)``.
            ids: int64 ``(items,)``, at least 0 and without repeats; by default 0, 1, 2 and so on.
            spec: What to build, for instance from ``choose_spec``; by default by size alone.
            version: Names the model that made the vectors.
            num_threads: Threads for building and for searches.

        Raises:
            InputError: Vectors or ids cannot be used.

        Example:
            >>> index = ItemIndex.build(np.eye(3, dtype=np.float32))
            >>> index.search(np.array([[0, 1, 0]], dtype=np.float32), 1).ids.tolist()
            [[1]]
        """
        vectors = _checked_vectors(vectors, dimension=None)
        if len(vectors) == 0:
            raise InputError("no vectors to index; at least one was expected")
        spec = spec or spec_for(len(vectors), vectors.shape[1])
        faiss.omp_set_num_threads(num_threads)
        store = VectorStore.trained(vectors, spec.stored)
        searcher = None
        if spec.kind is not IndexKind.FLAT:
            searcher = Searcher(train_searcher(vectors, spec), store, spec)
        index = cls(
            store,
            searcher,
            ids=np.zeros(0, np.int64),
            alive=np.zeros(0, np.bool_),
            spec=spec,
            version=version,
            num_threads=num_threads,
        )
        index.add(np.arange(len(vectors), dtype=np.int64) if ids is None else ids, vectors)
        return index

    @property
    def size(self) -> int:
        """Items that a search can return."""
        return int(self.alive.sum())

    @property
    def num_tombstones(self) -> int:
        """Slots of removed items that a search still meets, and passes over."""
        frees = self.searcher is None or self.searcher.can_remove
        return 0 if frees else len(self.alive) - self.size

    @property
    def size_bytes(self) -> int:
        """Bytes of vectors, codes, lists and ids."""
        searcher = 0 if self.searcher is None else self.searcher.size_bytes
        return self.store.size_bytes + searcher + self.ids.nbytes + self.alive.nbytes

    def search(self, queries: FloatArray, k: int, *, allowed: Allowed | None = None) -> Found:
        """Find the items with the highest inner products.

        Args:
            queries: float32 ``(queries, dimension)``.
            k: Results a query; more than are eligible leaves the rest at -1.
            allowed: Items that may be returned: a prepared filter, a bool mask by id, or ids.
                Ids that the index lacks are ignored.

        Raises:
            InputError: Queries, ``k`` or the filter cannot be used.
        """
        queries = _checked_vectors(queries, dimension=self.store.dimension)
        if k < 1:
            raise InputError(f"{k} items were asked for; at least 1 was expected", got=k)
        faiss.omp_set_num_threads(self.num_threads)
        chosen = self._filter_of(allowed)
        eligible = self._live.size if chosen is None else chosen.count
        wanted = min(k, eligible)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        values = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if wanted and len(queries):
            scores, slots = self._find(queries, wanted, chosen)
            ids[:, :wanted], values[:, :wanted] = self.ids[slots], scores
        return Found(ids=ids, scores=values)

    def prepare(self, allowed: npt.NDArray[np.bool_] | IntArray) -> ItemFilter:
        """Prepare a filter that many searches share: few items are copied, many get own lists.

        It holds for this state of the index: after ``add``, ``remove`` or ``compact`` it is
        refused, and must be prepared again.

        Args:
            allowed: bool mask by id, or int64 ids.
        """
        faiss.omp_set_num_threads(self.num_threads)
        made = self._filter_of(allowed)
        assert made is not None
        if made.count <= self.spec.exact_below or self.searcher is None:
            subset = faiss.IndexFlatIP(self.store.dimension)
            subset.add(self.store.take(made.slots))
            return replace(made, subset=subset)
        if made.share > _PREPARED_SHARE or self.spec.kind is not IndexKind.IVF:
            return made
        searcher = Searcher(self.searcher.emptied(), self.store, self.spec)
        searcher.add(made.slots, self.store.take(made.slots))
        return replace(made, searcher=searcher)

    def add(self, ids: IntArray, vectors: FloatArray) -> None:
        """Add items; nothing is trained again.

        Args:
            ids: int64 ``(items,)``, none of which the index has.
            vectors: float32 ``(items, dimension)``.

        Raises:
            InputError: Ids are repeated or taken, or vectors cannot be used.
        """
        vectors = _checked_vectors(vectors, dimension=self.store.dimension)
        ids = self._checked_new_ids(ids, count=len(vectors))
        faiss.omp_set_num_threads(self.num_threads)
        reused = np.zeros(0, np.int64)
        if self.searcher is None or self.searcher.can_remove:
            reused = np.flatnonzero(~self.alive)[: len(ids)]
            self.store.overwrite(reused, vectors[: reused.size])
        appended = self.store.append(vectors[reused.size :])
        slots = np.concatenate([reused, appended])
        if self.searcher is not None:
            self.searcher.add(slots, vectors)
        self.ids = np.concatenate([self.ids, np.zeros(appended.size, np.int64)])
        self.alive = np.concatenate([self.alive, np.zeros(appended.size, np.bool_)])
        self.ids[slots], self.alive[slots] = ids, True
        self._changed()

    def remove(self, ids: IntArray) -> None:
        """Remove items: from plain lists at once; else they stay as tombstones until compaction.

        An index compacts itself when more than a fifth of it is tombstones.

        Args:
            ids: int64 ``(items,)``, all of which the index has.

        Raises:
            InputError: The index lacks one of them.
        """
        ids = np.unique(np.asarray(ids, dtype=np.int64))
        slots = self._slots_of(ids)
        if (slots < 0).any():
            missing = ids[slots < 0]
            raise InputError(
                f"{missing.size} of {ids.size} ids are not in the index, for instance "
                f"{int(missing[0])}; remove only items that were added",
                got=int(missing[0]),
            )
        if self.searcher is not None and self.searcher.can_remove:
            self.searcher.remove(slots)
        self.alive[slots] = False
        self._changed()
        if self.num_tombstones > _COMPACTION_SHARE * len(self.alive):
            self.compact()

    def compact(self) -> None:
        """Give the slots of removed items back; nothing is trained again.

        Live vectors are coded anew from the stored ones, so this takes as long as adding them.
        """
        faiss.omp_set_num_threads(self.num_threads)
        slots = np.flatnonzero(self.alive)
        vectors = self.store.take(slots)
        codes = self.store.faiss_index
        codes.reset()
        codes.add(vectors)
        if self.searcher is not None:
            self.searcher = Searcher(self.searcher.emptied(), self.store, self.spec)
            self.searcher.add(np.arange(slots.size, dtype=np.int64), vectors)
        self.ids, self.alive = self.ids[slots], np.ones(slots.size, np.bool_)
        self._changed()

    def _find(self, queries: FloatArray, k: int, chosen: ItemFilter | None) -> Hits:
        """Search for ``k`` of at least ``k`` eligible slots."""
        if chosen is not None and chosen.subset is not None:
            scores, positions = chosen.subset.search(queries, k)
            return scores, chosen.slots[positions]
        if chosen is not None and chosen.count <= self.spec.exact_below:
            return self.store.search_slots(queries, k, chosen.slots)
        selector = None if chosen is None else chosen.selector
        if selector is None and self._selector is not None:
            selector = self._selector
        if self.searcher is None:
            return self.store.search(queries, k, selector=selector)
        if chosen is not None and chosen.searcher is not None:
            scores, slots = chosen.searcher.search(queries, k, share=chosen.share)
        else:
            share = 1.0 if chosen is None else chosen.share
            scores, slots = self.searcher.search(queries, k, selector=selector, share=share)
        short = np.flatnonzero(slots[:, -1] < 0)
        if short.size:  # too few in the lists that were read: compare everything for these
            scores[short], slots[short] = self.store.search(
                queries[short], k, selector=selector or bitmap_of(self.alive)
            )
        return scores, slots

    def _filter_of(self, allowed: Allowed | None) -> ItemFilter | None:
        if allowed is None:
            return None
        if isinstance(allowed, ItemFilter):
            if allowed.generation != self._generation:
                raise InputError(
                    "this filter was prepared before the index changed; prepare it again"
                )
            return allowed
        mask = self._allowed_slots(np.asarray(allowed))
        count = int(np.count_nonzero(mask))
        return ItemFilter(
            mask=mask,
            count=count,
            share=count / max(self._live.size, 1),
            generation=self._generation,
        )

    def _allowed_slots(self, allowed: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        if allowed.ndim != 1 or allowed.dtype.kind not in "bi":
            raise InputError(
                f"the filter is {allowed.dtype} of shape {allowed.shape}; a bool mask by id or "
                "a list of int64 ids was expected"
            )
        mask = np.zeros(self.alive.size, dtype=np.bool_)
        if allowed.dtype.kind == "i":
            slots = self._slots_of(allowed)
            mask[slots[slots >= 0]] = True
        elif self._ids_are_slots:
            both = min(allowed.size, mask.size)
            np.logical_and(self.alive[:both], allowed[:both], out=mask[:both])
        else:
            known = self.alive & (self.ids < allowed.size)
            mask[known] = allowed[self.ids[known]]
        return mask

    def _slots_of(self, ids: IntArray) -> IntArray:
        """Return each id's slot, -1 where the index lacks it."""
        if self._sorted_ids.size == 0:
            return np.full(ids.size, -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._sorted_ids, ids), self._sorted_ids.size - 1)
        return np.where(self._sorted_ids[place] == ids, self._order[place], -1)

    def _checked_new_ids(self, ids: IntArray, *, count: int) -> IntArray:
        ids = np.asarray(ids)
        if ids.dtype.kind != "i" or ids.shape != (count,):
            raise InputError(f"{ids.dtype} {ids.shape} ids; int64 ({count},) were expected")
        if count and int(ids.min()) < 0:
            raise InputError(f"id {int(ids.min())} is negative; ids start at 0")
        unique, repeats = np.unique(ids, return_counts=True)
        taken = unique[(repeats > 1) | (self._slots_of(unique) >= 0)]
        if taken.size:
            raise InputError(
                f"{taken.size} ids are repeated or in the index already, for instance "
                f"{int(taken[0])}; give each item once, and remove it before it is added again",
                got=int(taken[0]),
            )
        return ids.astype(np.int64)

    def _changed(self) -> None:
        self._generation += 1
        self._refresh()

    def _refresh(self) -> None:
        self._live = np.flatnonzero(self.alive)
        order = np.argsort(self.ids[self._live], kind="stable")
        self._order = self._live[order]
        self._sorted_ids = self.ids[self._order]
        self._ids_are_slots = bool((self.ids == np.arange(self.ids.size)).all())
        # Plain lists hold live slots only; every other search meets the dead as well.
        lists = self.searcher is not None and self.searcher.can_remove
        some_dead = self._live.size < self.alive.size and not lists
        self._selector = bitmap_of(self.alive) if some_dead else None


def _checked_vectors(vectors: FloatArray, *, dimension: int | None) -> FloatArray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        wanted = "columns" if dimension is None else dimension
        raise InputError(
            f"vectors of shape {vectors.shape}; (rows, {wanted}) were expected",
            got=vectors.shape,
        )
    if not np.isfinite(vectors).all():
        raise InputError("a vector holds NaN or infinity; finite numbers were expected")
    return vectors
