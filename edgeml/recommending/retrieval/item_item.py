"""Closed-form systems over who has what: popularity, item-kNN, EASE, and EASE as vectors.

Each is fitted from two columns of codes in seconds, answers anonymous users by their history, and
is the yardstick for anything trained. Items that training never saw score zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.retrieval.histories import FloatArray, Histories, IntArray, check_pairs
from edgeml.recommending.retrieval.model import vector_scores

_MAX_DENSE_ITEMS = 30_000


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """The same ranking for everybody: how often an item was chosen.

    Attributes:
        counts: float32 ``(num_items,)``: weighted interactions an item.
    """

    counts: FloatArray
    kind: str = "popularity"

    @classmethod
    def fit(
        cls, items: IntArray, *, num_items: int, weights: npt.NDArray[np.float64] | None = None
    ) -> Popularity:
        """Count an interaction log's items.

        Args:
            items: int64 ``(rows,)``.
            num_items: Item codes, the unknown item 0 included.
            weights: ``(rows,)``: for instance 0 for all but the last day, or a decay by age.

        Raises:
            InputError: A code is out of range.
        """
        check_pairs(np.zeros_like(items), items, num_users=1, num_items=num_items)
        counts = np.bincount(items, weights=weights, minlength=num_items)
        return cls(counts=counts.astype(np.float32))

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return self.counts.size

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``, each row alike."""
        scores = np.repeat(self.counts[None], len(histories), axis=0)
        scores[:, 0] = -np.inf
        return scores


@dataclass(frozen=True, kw_only=True)
class ItemKnn:
    """Cosine similarity of items, the nearest few neighbours of each.

    Attributes:
        weights: float32 ``(num_items, num_items)``: from an owned item (row) to a scored one.
    """

    weights: FloatArray
    kind: str = "item_knn"

    @classmethod
    def fit(
        cls,
        users: IntArray,
        items: IntArray,
        *,
        num_users: int,
        num_items: int,
        neighbours: int = 100,
        shrinkage: float = 10.0,
    ) -> ItemKnn:
        """Fit from an interaction log.

        Args:
            users: int64 ``(rows,)``.
            items: int64 ``(rows,)``.
            num_users: User codes.
            num_items: Item codes.
            neighbours: Similar items that count for each item.
            shrinkage: Added to the cosine's denominator: rare pairs are trusted less.

        Raises:
            InputError: Codes are out of range or the catalogue is too large for a dense matrix.
        """
        together = _item_gram(users, items, num_users=num_users, num_items=num_items)
        counts = np.sqrt(np.diag(together))
        weights = together / (counts[:, None] * counts[None] + max(shrinkage, 1e-9))
        np.fill_diagonal(weights, 0)
        if neighbours < num_items - 1:
            cut = np.partition(weights, -neighbours, axis=0)[-neighbours]
            weights[weights < cut] = 0
        return cls(weights=weights.astype(np.float32))

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return len(self.weights)

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return _scores(histories, self.weights)


@dataclass(frozen=True, kw_only=True)
class Ease:
    """Embarrassingly shallow autoencoder (Steck 2019): each item from all others, by ridge.

    Attributes:
        weights: float32 ``(num_items, num_items)``, zero on the diagonal.
        precision: float32 ``(num_items,)``: diagonal of the regularised inverse.
    """

    weights: FloatArray
    precision: FloatArray
    kind: str = "ease"

    @classmethod
    def fit(
        cls, users: IntArray, items: IntArray, *, num_users: int, num_items: int, l2: float = 250.0
    ) -> Ease:
        """Solve for the item-item weights.

        Args:
            users: int64 ``(rows,)``.
            items: int64 ``(rows,)``.
            num_users: User codes.
            num_items: Item codes.
            l2: Ridge penalty, in interactions.

        Raises:
            InputError: Codes are out of range, the penalty is not above zero, or the catalogue is
                too large for a dense matrix.
        """
        if l2 <= 0:
            raise InputError(f"the ridge penalty is {l2}; a number above zero was expected", got=l2)
        gram = _item_gram(users, items, num_users=num_users, num_items=num_items)
        gram[np.diag_indices(num_items)] += l2
        inverse = np.linalg.inv(gram)
        precision = np.diag(inverse).copy()
        weights = inverse / -precision
        np.fill_diagonal(weights, 0)
        return cls(weights=weights.astype(np.float32), precision=precision.astype(np.float32))

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return len(self.weights)

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return _scores(histories, self.weights)

    def leave_one_out_scores(self, histories: Histories) -> FloatArray:
        """Score training users as a model would that had never been shown their own row.

        Each column of EASE is a ridge regression with users as rows, so the prediction of the
        model fitted without this user's row is known in closed form: the residual over one minus
        the row's leverage. A ranker trained on these scores meets the same distribution for items
        that a user has (in training) as for items that they have not yet (in serving).

        Args:
            histories: The rows that the model was fitted on; for other rows this is meaningless.

        Returns:
            float32 ``(requests, num_items)``; column 0 is minus infinity.
        """
        has = histories.matrix(self.num_items)
        residuals = has - histories.sums(self.weights)
        smoothed = residuals * self.precision
        own = (has * smoothed).sum(axis=1, keepdims=True)
        leverage = np.clip(own - smoothed * residuals, 0, 0.99)
        scores: FloatArray = (has - residuals / (1 - leverage)).astype(np.float32)
        scores[:, 0] = -np.inf
        return scores


@dataclass(frozen=True, kw_only=True)
class LinearFactors:
    """EASE at a lower rank, as one vector an item and one a history: what an index serves.

    The weights are projected onto the directions in which the training users' scores vary most,
    so ``scores = (history @ weights @ basis) @ basis.T``. A user's vector is a sum over the
    history, so nobody need be known beforehand.

    Attributes:
        fold_in: float32 ``(num_items, rank)``: what each owned item adds to a user's vector.
        item_vectors: float32 ``(num_items, rank)``.
    """

    fold_in: FloatArray
    item_vectors: FloatArray
    kind: str = "linear_factors"

    @classmethod
    def from_ease(cls, ease: Ease, histories: Histories, *, rank: int) -> LinearFactors:
        """Factorise fitted weights.

        Args:
            ease: The fitted model.
            histories: The training users' rows.
            rank: Dimension of the vectors; cut to the number of items.

        Raises:
            InputError: The rank is below 1.
        """
        if rank < 1:
            raise InputError(f"rank {rank} was asked for; at least 1 was expected", got=rank)
        weights = ease.weights.astype(np.float64)
        has = histories.matrix(ease.num_items).astype(np.float64)
        predicted = has @ weights
        _, directions = np.linalg.eigh(predicted.T @ predicted)
        basis = directions[:, ::-1][:, :rank]
        # eigh leaves signs open: fix them, so that the same data gives the same files.
        basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
        return cls(
            fold_in=np.ascontiguousarray(weights @ basis, dtype=np.float32),
            item_vectors=np.ascontiguousarray(basis, dtype=np.float32),
        )

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return len(self.item_vectors)

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, rank)``."""
        return histories.sums(self.fold_in)

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return vector_scores(self.user_vectors(histories), self.item_vectors)


def _scores(histories: Histories, weights: FloatArray) -> FloatArray:
    scores = histories.sums(weights)
    scores[:, 0] = -np.inf
    return scores


def _item_gram(
    users: IntArray, items: IntArray, *, num_users: int, num_items: int
) -> npt.NDArray[np.float64]:
    """Return how many users have both items, float64 ``(num_items, num_items)``."""
    check_pairs(users, items, num_users=num_users, num_items=num_items)
    if num_items > _MAX_DENSE_ITEMS:
        raise InputError(
            f"{num_items} items need a dense matrix of {num_items**2 * 8 / 1e9:.0f} GB; at most "
            f"{_MAX_DENSE_ITEMS} were expected; use the two-tower model",
            limit="items",
            got=num_items,
        )
    histories = Histories.by_user(users, items, num_users=num_users).distinct()
    gram = np.zeros((num_items, num_items), dtype=np.float64)
    step = max(1, 50_000_000 // num_items)
    for start in range(0, num_users, step):
        block = histories.rows(slice(start, min(start + step, num_users))).matrix(num_items)
        gram += block.T @ block  # whole numbers below 2**24: exact in float32
    return gram
