"""What a retrieval model is, and its exact top-k over the whole catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError, ModelOutputError
from edgeml.recommending.retrieval.histories import FloatArray, Histories, IntArray

_BLOCK_CELLS = 16_000_000


class RetrievalModel(Protocol):
    """Scores the whole catalogue for a user, or for nothing but a history."""

    @property
    def kind(self) -> str:
        """The system's name in reports."""
        ...

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        ...

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``; column 0 is minus infinity, nothing masked."""
        ...


class VectorModel(RetrievalModel, Protocol):
    """A retrieval model whose score is an inner product: what an index can serve."""

    @property
    def item_vectors(self) -> FloatArray:
        """float32 ``(num_items, dimension)``; row 0 is not used."""
        ...

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, dimension)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The best items of each request, best first.

    Attributes:
        items: int64 ``(requests, k)``; 0 where fewer than k items were left.
        scores: float32 ``(requests, k)``; minus infinity in the same places.
    """

    items: IntArray
    scores: FloatArray


def vector_scores(user_vectors: FloatArray, item_vectors: FloatArray) -> FloatArray:
    """Return inner products as a retrieval model's scores: column 0 is nobody's."""
    scores: FloatArray = user_vectors @ item_vectors.T
    scores[:, 0] = -np.inf
    return scores


def top_k(
    model: RetrievalModel,
    histories: Histories,
    k: int,
    *,
    seen: Histories | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> TopK:
    """Rank the whole catalogue for each request and keep the best ``k``.

    Ties go to the lower item code, so that a ranking is the same on every machine.

    Args:
        model: Any retrieval model.
        histories: The requests.
        k: Items wanted; more than the catalogue holds is cut to it.
        seen: Rows of items that are never returned; by default the histories themselves.
        allowed: bool ``(num_items,)``: only these items are returned.

    Raises:
        InputError: ``k`` is below 1, or ``seen`` or ``allowed`` has another size.
        ModelOutputError: The model scored an item with NaN.
    """
    check_request(k, histories=histories, seen=seen, num_items=model.num_items, allowed=allowed)
    seen = histories if seen is None else seen
    k = min(k, model.num_items - 1)
    step = max(1, _BLOCK_CELLS // model.num_items)
    blocks = []
    for start in range(0, len(histories), step):
        rows = slice(start, min(start + step, len(histories)))
        scores = model.scores(histories.rows(rows))
        if np.isnan(scores).any():
            raise ModelOutputError(tensor=f"scores of {model.kind}")
        masked = seen.rows(rows)
        scores[masked.row_of_event, masked.items] = -np.inf
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        blocks.append(best_columns(scores, k))
    if not blocks:
        return TopK(items=np.zeros((0, k), np.int64), scores=np.zeros((0, k), np.float32))
    return TopK(
        items=np.concatenate([block.items for block in blocks]),
        scores=np.concatenate([block.scores for block in blocks]),
    )


def best_columns(scores: FloatArray, k: int) -> TopK:
    """Return each row's ``k`` highest columns, ties to the lower column.

    Args:
        scores: float32 ``(rows, columns)``; minus infinity is never returned.
        k: Columns wanted, at most the number of columns.
    """
    columns = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k < scores.shape[1] else None
    if columns is None:
        columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    else:
        columns = _with_ties(scores, columns, k)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.lexsort((columns, -values), axis=1)[:, :k]
    items = np.take_along_axis(columns, order, axis=1).astype(np.int64)
    values = np.take_along_axis(values, order, axis=1).astype(np.float32)
    items[np.isneginf(values)] = 0
    return TopK(items=items, scores=values)


def _with_ties(scores: FloatArray, columns: IntArray, k: int) -> IntArray:
    """Where the k-th value is shared across the cut, take the lowest columns that hold it."""
    values = np.take_along_axis(scores, columns, axis=1)
    cut = values.min(axis=1, keepdims=True)
    shared = (scores == cut).sum(axis=1) > (values == cut).sum(axis=1)
    chosen = columns.copy()
    for row in np.flatnonzero(shared & ~np.isneginf(cut[:, 0])):
        above = np.flatnonzero(scores[row] > cut[row])
        ties = np.flatnonzero(scores[row] == cut[row])
        chosen[row] = np.concatenate([above, ties])[:k]
    return chosen


def check_request(
    k: int,
    *,
    histories: Histories,
    seen: Histories | None,
    num_items: int,
    allowed: npt.NDArray[np.bool_] | None,
) -> None:
    """Refuse a request that no retrieval could answer.

    Raises:
        InputError: See ``top_k``.
    """
    if k < 1:
        raise InputError(f"{k} items were asked for; at least 1 was expected", limit="k", got=k)
    histories.check_items(num_items)
    if seen is not None:
        seen.check_items(num_items)
        if len(seen) != len(histories):
            raise InputError(
                f"{len(seen)} rows of seen items for {len(histories)} histories; "
                "one row a request was expected"
            )
    if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (num_items,)):
        raise InputError(
            f"the filter is {allowed.dtype} {allowed.shape}; bool ({num_items},) was expected: "
            "one entry an item code"
        )
