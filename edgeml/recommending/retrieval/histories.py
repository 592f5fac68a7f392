"""Many users' items as one ragged array: what every retrieval model reads.

Codes come from a vocabulary whose code 0 is "never seen in training": an event with item 0 says
nothing and is left out, and user 0 is anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Histories:
    """One row of item codes a request.

    Attributes:
        offsets: int64 ``(requests + 1,)``: where each row begins and the last one ends.
        items: int64 ``(events,)``: item codes, each at least 1.
        users: int64 ``(requests,)``: user codes; 0 is an anonymous user.
    """

    offsets: IntArray
    items: IntArray
    users: IntArray

    def __post_init__(self) -> None:
        if self.users.shape != (self.offsets.size - 1,) or self.offsets[-1] != self.items.size:
            raise InputError(
                f"{self.users.size} users, {self.offsets.size} offsets and {self.items.size} items "
                "do not belong together; build histories with Histories.of or Histories.by_user"
            )
        if self.items.size and int(self.items.min()) < 1:
            raise InputError("item codes start at 1; leave unknown items out of a history")

    def __len__(self) -> int:
        return int(self.users.size)

    def __getitem__(self, row: int) -> IntArray:
        """Return one row's item codes, int64 ``(events,)``."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> IntArray:
        """Events a row, int64 ``(requests,)``."""
        return np.diff(self.offsets)

    @property
    def row_of_event(self) -> IntArray:
        """The row of each event, int64 ``(events,)``."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[int] | IntArray], *, users: Sequence[int] | None = None
    ) -> Histories:
        """Build from one list of item codes a request; unknown items (code 0) are left out.

        Example:
            >>> Histories.of([[3, 5], []])[0].tolist()
            [3, 5]
        """
        kept = [row[row != 0] for row in (np.asarray(row, dtype=np.int64) for row in rows)]
        return cls(
            offsets=np.cumsum([0, *(row.size for row in kept)], dtype=np.int64),
            items=np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64),
            users=np.zeros(len(kept), np.int64) if users is None else np.asarray(users, np.int64),
        )

    @classmethod
    def by_user(cls, users: IntArray, items: IntArray, *, num_users: int) -> Histories:
        """Gather an interaction log: row ``u`` holds the items of user code ``u``, in log order.

        Args:
            users: int64 ``(rows,)`` user codes below ``num_users``.
            items: int64 ``(rows,)`` item codes; rows with item 0 are left out.
            num_users: Rows to make; row 0 is the anonymous user's and holds nothing.

        Raises:
            InputError: Lengths differ, or a user code is out of range.
        """
        check_pairs(users, items, num_users=num_users)
        known = (items != 0) & (users != 0)
        users, items = users[known], items[known]
        order = np.argsort(users, kind="stable")
        counts = np.bincount(users, minlength=num_users)
        return cls(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=items[order],
            users=np.arange(num_users, dtype=np.int64),
        )

    def rows(self, indices: Any) -> Histories:
        """Return some rows, in the order asked for.

        Args:
            indices: Row numbers, or a bool mask ``(requests,)``.
        """
        chosen = np.arange(len(self))[indices]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Histories(
            offsets=offsets,
            items=self.items[np.repeat(self.offsets[chosen], lengths) + within],
            users=self.users[chosen],
        )

    def distinct(self) -> Histories:
        """Return the rows without repeats: a model of who has what counts an item once."""
        width = int(self.items.max()) + 1 if self.items.size else 1
        _, first = np.unique(self.row_of_event * width + self.items, return_index=True)
        if first.size == self.items.size:
            return self
        first.sort()
        lengths = np.bincount(self.row_of_event[first], minlength=len(self))
        return Histories(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=self.items[first],
            users=self.users,
        )

    def sums(self, table: FloatArray) -> FloatArray:
        """Return the sum of the table's rows over each history.

        Args:
            table: float32 ``(num_items, columns)``.

        Returns:
            float32 ``(requests, columns)``; zeros for an empty history.
        """
        self.check_items(len(table))
        if self.items.size * 20 > len(self) * len(table):
            return self.distinct().matrix(len(table)) @ table
        distinct = self.distinct()
        sums = np.zeros((len(self), table.shape[1]), dtype=np.float32)
        for row in np.flatnonzero(distinct.lengths).tolist():
            sums[row] = table[distinct[row]].sum(axis=0)
        return sums

    def matrix(self, num_items: int) -> FloatArray:
        """Return who has what, float32 ``(requests, num_items)`` of zeros and ones.

        Raises:
            InputError: An item code is not below ``num_items``.
        """
        self.check_items(num_items)
        matrix = np.zeros((len(self), num_items), dtype=np.float32)
        matrix[self.row_of_event, self.items] = 1
        return matrix

    def check_items(self, num_items: int) -> None:
        """Refuse item codes that a model of ``num_items`` codes does not know."""
        if self.items.size and int(self.items.max()) >= num_items:
            raise InputError(
                f"item code {int(self.items.max())} is not below {num_items}, the model's number "
                "of codes; encode items with the vocabulary that the model was trained with"
            )


def check_pairs(
    users: IntArray, items: IntArray, *, num_users: int, num_items: int | None = None
) -> None:
    """Refuse an interaction log whose columns cannot be used as codes.

    Raises:
        InputError: The columns differ in length or hold codes out of range.
    """
    if users.shape != items.shape or users.ndim != 1:
        raise InputError(
            f"user and item columns have shapes {users.shape} and {items.shape}; "
            "two columns of one length were expected"
        )
    for name, codes, size in (("user", users, num_users), ("item", items, num_items)):
        if codes.size == 0:
            continue
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or (size is not None and high >= size):
            raise InputError(
                f"{name} codes run from {low} to {high}; 0 to {size} (exclusive) was expected; "
                "encode the log with one vocabulary",
                got=high,
            )
