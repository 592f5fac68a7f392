"""The one form in which interactions travel: dense codes, times, and what happened.

Code 0 means unknown and never occurs in a log. An item code at or beyond the catalogue's size is an
item that the catalogue did not have when the model was trained: relevant, and out of its reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Events of a log, one a row.

    Attributes:
        users: int64 ``(rows,)``, codes from 1.
        items: int64 ``(rows,)``, codes from 1.
        times_ms: int64 ``(rows,)``, milliseconds since 1970.
        positive: bool ``(rows,)``: whether the event shows that the user wanted the item.
        signals: Name to float32 ``(rows,)``: what was observed after the item was shown, such as a
            click or seconds watched. Never a feature.
    """

    users: Codes
    items: Codes
    times_ms: Codes
    positive: npt.NDArray[np.bool_]
    signals: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = self.users.shape
        columns = {"items": self.items, "times_ms": self.times_ms, "positive": self.positive}
        for name, column in {**columns, **self.signals}.items():
            if column.shape != rows or len(rows) != 1:
                raise ValueError(f"'{name}' has the shape {column.shape}; {rows} was expected")

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Interactions:
        """Return some of the rows, by index or by mask."""
        return Interactions(
            users=self.users[rows],
            items=self.items[rows],
            times_ms=self.times_ms[rows],
            positive=self.positive[rows],
            signals={name: values[rows] for name, values in self.signals.items()},
        )

    def positives(self) -> Interactions:
        """Return the rows that show that a user wanted an item."""
        return self.take(self.positive)

    def followed_by(self, later: Interactions) -> Interactions:
        """Return these rows and then the other ones; both must have the same signals."""
        return Interactions(
            users=np.concatenate([self.users, later.users]),
            items=np.concatenate([self.items, later.items]),
            times_ms=np.concatenate([self.times_ms, later.times_ms]),
            positive=np.concatenate([self.positive, later.positive]),
            signals={
                name: np.concatenate([values, later.signals[name]])
                for name, values in self.signals.items()
            },
        )
