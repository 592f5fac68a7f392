"""Trained vector models as they answer requests: numpy reads what torch learned.

Both give one vector an item and one a request, so an index can serve them. Both answer anonymous
users by their history. Only the two-tower model knows items and users by features alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.errors import InputError
from edgeml.recommending.retrieval.histories import FloatArray, Histories
from edgeml.recommending.retrieval.model import vector_scores

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, kw_only=True)
class BprModel:
    """Matrix factorisation learned by Bayesian personalised ranking.

    A user of the training log has a vector; anybody else is folded in: their vector is the
    ridge solution that gives 1 to the items of the history and 0 to the catalogue at a low weight.

    Attributes:
        user_table: float32 ``(num_users, dimension)``.
        item_vectors: float32 ``(num_items, dimension)``; an item's bias is its last entry, and the
            last entry of every user's vector is 1.
        known: float32 ``(num_users,)``: 1 where training saw the user.
        unseen_weight: Weight of an item outside the history when folding in.
        l2: Ridge penalty when folding in.
    """

    user_table: FloatArray
    item_vectors: FloatArray
    known: FloatArray
    unseen_weight: float = 0.01
    l2: float = 0.1
    kind: str = "bpr"

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return len(self.item_vectors)

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, dimension)``."""
        users = np.where(histories.users < len(self.user_table), histories.users, 0)
        vectors = self.user_table[users]
        strangers = np.flatnonzero(self.known[users] == 0)
        if strangers.size:
            vectors[strangers] = self._fold_in(histories.rows(strangers))
        return vectors

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return vector_scores(self.user_vectors(histories), self.item_vectors)

    def _fold_in(self, histories: Histories) -> FloatArray:
        factors = self.item_vectors[1:, :-1].astype(np.float64)
        everything = self.unseen_weight * factors.T @ factors + self.l2 * np.eye(factors.shape[1])
        vectors = np.zeros((len(histories), self.item_vectors.shape[1]), dtype=np.float32)
        vectors[:, -1] = 1
        distinct = histories.distinct()
        distinct.check_items(self.num_items)
        scale = float(np.linalg.norm(self.user_table[:, :-1], axis=1).max(initial=0))
        for row in np.flatnonzero(distinct.lengths).tolist():
            own = factors[distinct[row] - 1]
            solved = np.linalg.solve(everything + own.T @ own, own.sum(axis=0))
            # BPR fixes differences of scores, not their size: take a trained user's length.
            vectors[row, :-1] = solved * (scale / max(float(np.linalg.norm(solved)), scale))
        return vectors


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One linear layer of a tower.

    Attributes:
        weight: float32 ``(inputs, outputs)``.
        bias: float32 ``(outputs,)``.
    """

    weight: FloatArray
    bias: FloatArray

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return float32 ``(rows, outputs)``."""
        return values @ self.weight + self.bias


@dataclass(frozen=True, kw_only=True)
class TwoTowerModel:
    """A tower for users and one for items, meeting in an inner product of unit vectors.

    A user enters as a code (0 for anybody), the mean embedding of the history, and features; an
    item as a code and features. What training never saw has code 0's embedding and its features.

    Attributes:
        user_table: float32 ``(num_users, width)`` embeddings of user codes.
        event_table: float32 ``(num_items, width)`` embeddings of items in a history.
        user_features: float32 ``(num_users, features)``; row 0 stands for anonymous users.
        user_layers: Hidden and last layer of the user tower.
        item_vectors: float32 ``(num_items, dimension)``: what the item tower gave.
        unknown_item: float32 ``(width,)``: embedding of an item that training never saw.
        item_layers: Hidden and last layer of the item tower, for items added later.
    """

    user_table: FloatArray
    event_table: FloatArray
    user_features: FloatArray
    user_layers: tuple[Layer, Layer]
    item_vectors: FloatArray
    unknown_item: FloatArray
    item_layers: tuple[Layer, Layer]
    kind: str = "two_tower"

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return len(self.item_vectors)

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, dimension)``, of length 1."""
        users = np.where(histories.users < len(self.user_table), histories.users, 0)
        distinct = histories.distinct()
        counts = np.maximum(distinct.lengths, 1).astype(np.float32)
        mean = distinct.sums(self.event_table) / counts[:, None]
        inputs = np.concatenate([self.user_table[users], mean, self.user_features[users]], axis=1)
        return _tower(inputs, self.user_layers)

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return vector_scores(self.user_vectors(histories), self.item_vectors)

    def cold_item_vectors(self, features: FloatArray) -> FloatArray:
        """Return vectors of items that training never saw, to add to an index.

        Args:
            features: float32 ``(items, features)``, encoded as the training items' were.

        Returns:
            float32 ``(items, dimension)``, of length 1.

        Raises:
            InputError: The number of features is another one, or one is not finite.
        """
        expected = len(self.item_layers[0].weight) - self.unknown_item.size
        if features.ndim != 2 or features.shape[1] != expected:
            raise InputError(f"item features of shape {features.shape}; (items, {expected}) wanted")
        if not np.isfinite(features).all():
            raise InputError("item features hold NaN or infinity; finite numbers were expected")
        codes = np.repeat(self.unknown_item[None], len(features), axis=0)
        return _tower(np.concatenate([codes, features], axis=1), self.item_layers)


def _tower(inputs: FloatArray, layers: tuple[Layer, Layer]) -> FloatArray:
    outputs = layers[1](np.maximum(layers[0](inputs), 0))
    norms = np.linalg.norm(outputs, axis=1, keepdims=True)
    vectors: FloatArray = outputs / np.maximum(norms, _SMALLEST_NORM)
    return vectors
