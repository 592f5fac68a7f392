"""A retrieval model and the index over its item vectors, as one thing that answers requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.errors import IntegrityError
from edgeml.recommending.index.item_filter import ItemFilter
from edgeml.recommending.index.item_index import ItemIndex
from edgeml.recommending.index.spec import IndexSpec
from edgeml.recommending.index.storing import load_index, save_index
from edgeml.recommending.retrieval.histories import FloatArray, Histories, IntArray
from edgeml.recommending.retrieval.model import TopK, VectorModel, check_request


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What retrieval found for one request, best first; short when fewer items are left.

    Attributes:
        items: int64 ``(found,)`` item codes.
        scores: float32 ``(found,)``.
    """

    items: IntArray
    scores: FloatArray


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """Answers with candidates, found by the index, scored by the model's inner product.

    Attributes:
        model: Makes a request's vector.
        index: Over the model's item vectors, ids being item codes.
    """

    model: VectorModel
    index: ItemIndex

    def __post_init__(self) -> None:
        dimension = self.model.item_vectors.shape[1]
        if self.index.store.dimension != dimension:
            raise IntegrityError(
                path="index",
                reason=f"its vectors have dimension {self.index.store.dimension} and the model's "
                f"{dimension}; both from one export were expected",
            )

    @classmethod
    def build(
        cls,
        model: VectorModel,
        *,
        spec: IndexSpec | None = None,
        version: str = "",
        num_threads: int = 1,
    ) -> Retriever:
        """Index all of a model's items but the unknown one."""
        index = ItemIndex.build(
            model.item_vectors[1:],
            ids=np.arange(1, model.num_items, dtype=np.int64),
            spec=spec,
            version=version,
            num_threads=num_threads,
        )
        return cls(model=model, index=index)

    @classmethod
    def load(
        cls, model: VectorModel, folder: Path, *, version: str, num_threads: int = 1
    ) -> Retriever:
        """Load the index that ``save`` wrote and join it with its model.

        Raises:
            IntegrityError: The index is of another version.
            BundleError: The index cannot be read.
        """
        index = load_index(folder, version=version, num_threads=num_threads)
        return cls(model=model, index=index)

    def save(self, folder: Path) -> None:
        """Write the index; the model is saved by ``save_model``."""
        save_index(self.index, folder)

    def top_k(
        self,
        histories: Histories,
        k: int,
        *,
        seen: Histories | None = None,
        allowed: npt.NDArray[np.bool_] | ItemFilter | None = None,
    ) -> TopK:
        """Find the best ``k`` items of each request; see ``retrieval.model.top_k``.

        Seen items are found and dropped: as many more are asked for as the longest row has.

        Raises:
            InputError: The request does not fit the model.
        """
        mask = None if isinstance(allowed, ItemFilter) else allowed
        num_items = self.model.num_items
        check_request(k, histories=histories, seen=seen, num_items=num_items, allowed=mask)
        seen = (histories if seen is None else seen).distinct()
        k = min(k, self.index.size)
        vectors = self.model.user_vectors(histories)
        items = np.zeros((len(histories), k), dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        # Requests of like history length are searched together, so that few ask for many.
        extra = _rounded_up(seen.lengths)
        for more in np.unique(extra).tolist():
            rows = np.flatnonzero(extra == more)
            wanted = min(k + more, self.index.size)
            found = self.index.search(vectors[rows], wanted, allowed=allowed)
            kept = _without(seen.rows(rows), found.ids, num_items=num_items)
            order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
            kept = np.take_along_axis(kept, order, axis=1)
            items[rows] = np.where(kept, np.take_along_axis(found.ids, order, axis=1), 0)
            scores[rows] = np.where(kept, np.take_along_axis(found.scores, order, axis=1), -np.inf)
        return TopK(items=items, scores=scores)

    def retrieve(
        self,
        history: IntArray,
        k: int,
        *,
        user: int = 0,
        exclude: IntArray | None = None,
        allowed: npt.NDArray[np.bool_] | ItemFilter | None = None,
    ) -> Candidates:
        """Find candidates for one request.

        Args:
            history: int64 ``(events,)`` item codes.
            k: Candidates wanted.
            user: User code, 0 for anybody.
            exclude: Item codes never to return; by default the history.
            allowed: A prepared filter, or bool ``(num_items,)`` by item code.

        Raises:
            InputError: The request does not fit the model.
        """
        seen = None if exclude is None else Histories.of([exclude])
        best = self.top_k(Histories.of([history], users=[user]), k, seen=seen, allowed=allowed)
        found = best.items[0] > 0
        return Candidates(items=best.items[0][found], scores=best.scores[0][found])


def _rounded_up(lengths: IntArray) -> IntArray:
    """Round up to a power of two, zero staying zero."""
    powers = np.ceil(np.log2(np.maximum(lengths, 1)))
    return np.where(lengths == 0, 0, np.exp2(powers)).astype(np.int64)


def _without(seen: Histories, ids: IntArray, *, num_items: int) -> npt.NDArray[np.bool_]:
    """Return which found ids are items that the row has not seen, bool ``ids.shape``."""
    rows = np.arange(len(seen), dtype=np.int64)[:, None]
    found = np.isin(rows * num_items + ids, seen.row_of_event * num_items + seen.items)
    return (ids > 0) & ~found
