"""Vectors with popularity as one more dimension, so that one index also answers new users.

The user's vector has a one in that dimension: the score is the inner model's plus the item's bias.
A user without a history has the bias alone, which is popularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeml.recommending.retrieval.histories import FloatArray, Histories
from edgeml.recommending.retrieval.model import VectorModel, vector_scores


@dataclass(frozen=True)
class Biased:
    """A vector model whose items have a score of their own.

    Attributes:
        inner: The model.
        bias: float32 ``(num_items,)``: added to each score.
    """

    inner: VectorModel
    bias: FloatArray

    @property
    def kind(self) -> str:
        """The inner model's name."""
        return self.inner.kind

    @property
    def num_items(self) -> int:
        """Item codes, the unknown item 0 included."""
        return self.inner.num_items

    @cached_property
    def item_vectors(self) -> FloatArray:
        """float32 ``(num_items, dimension + 1)``."""
        return np.concatenate([self.inner.item_vectors, self.bias[:, None]], axis=1)

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, dimension + 1)``."""
        ones = np.ones((len(histories), 1), dtype=np.float32)
        return np.concatenate([self.inner.user_vectors(histories), ones], axis=1)

    def scores(self, histories: Histories) -> FloatArray:
        """Return float32 ``(requests, num_items)``."""
        return vector_scores(self.user_vectors(histories), self.item_vectors)
