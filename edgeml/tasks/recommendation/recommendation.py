"""One answer of a recommender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """An item for a user.

    Attributes:
        item: The item's id, as the log wrote it.
        score: What the list was ordered by before it was diversified; higher is better.
        reasons: Why it is here: ``because you liked 242``, ``popular``, ``new user``.
    """

    item: str
    score: float
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's JSON."""
        return {"item": self.item, "score": self.score, "reasons": list(self.reasons)}
