"""A ranker at run time: checks a request, runs it once with all its candidates, returns scores.

What depends on the request alone is one row. It refuses codes and numbers that would rank
silently wrong; it knows neither torch nor which engine answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.predictor import Engine
from edgeml.errors import InputError, SignatureError
from edgeml.tasks.recommendation.ranking import RankingFields, RankingRows

Scores = npt.NDArray[np.float32]


class Ranker(Closing):
    """Scores candidates; a context manager that closes its engine.

    Args:
        engine: Runs the ranker's file.
        fields: What it reads and predicts.

    Raises:
        SignatureError: The engine runs another model than the fields describe.
    """

    def __init__(self, engine: Engine, fields: RankingFields) -> None:
        for side in ("inputs", "outputs"):
            wanted = getattr(fields.signature, side)
            found = {spec.name: spec for spec in getattr(engine.signature, side)}
            for spec in wanted:
                if spec.name not in found:
                    raise SignatureError(
                        tensor=spec.name, expected=spec.describe(), got="missing in this file"
                    )
                # A free axis may carry another name; its place is what matters.
                shape = [axis if isinstance(axis, int) else None for axis in spec.shape]
                other = found[spec.name]
                got = [axis if isinstance(axis, int) else None for axis in other.shape]
                if (spec.dtype, shape) != (other.dtype, got):
                    raise SignatureError(
                        tensor=spec.name, expected=spec.describe(), got=other.describe()
                    )
        self._engine = engine
        self.fields = fields

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        return self._engine.served_by

    def score(
        self,
        *,
        request_ids: npt.NDArray[np.int64],
        request_numbers: npt.NDArray[np.float32],
        candidate_ids: npt.NDArray[np.int64],
        candidate_numbers: npt.NDArray[np.float32],
    ) -> Scores:
        """Return the probability of the first head for each candidate.

        Args:
            request_ids: int64 ``(1, request ids)``.
            request_numbers: float32 ``(1, request numbers)``.
            candidate_ids: int64 ``(candidates, candidate ids)``.
            candidate_numbers: float32 ``(candidates, candidate numbers)``.

        Returns:
            float32 ``(candidates,)``; empty for no candidate.

        Raises:
            InputError: A code lies outside its vocabulary, or a number is NaN or infinite.
            SignatureError: An array has another dtype or shape.
        """
        return self._run(
            {
                "request_ids": request_ids,
                "request_numbers": request_numbers,
                "candidate_ids": candidate_ids,
                "candidate_numbers": candidate_numbers,
            }
        )["scores"]

    def score_rows(self, rows: RankingRows) -> Scores:
        """Return the scores of rows of many requests, those of one request in one call.

        Args:
            rows: In any order; rows whose request part is the same are one request.
        """
        scores = np.zeros(len(rows), dtype=np.float32)
        for places in requests_of(rows):
            scores[places] = self._run(self.fields.feed(rows.take(places)))["scores"]
        return scores

    def _run(self, feed: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        count = len(feed["candidate_ids"])
        if not count:
            return {"scores": np.zeros(0, dtype=np.float32)}
        if len(feed["candidate_numbers"]) != count:
            raise InputError(
                f"{count} candidates have codes and {len(feed['candidate_numbers'])} have numbers; "
                "give a row of each to every candidate",
                limit="candidates",
            )
        self._engine.signature.check_inputs(feed)
        self.fields.check(feed)
        return self._engine.run(feed)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


def requests_of(rows: RankingRows) -> list[npt.NDArray[np.int64]]:
    """Return the row numbers of each request: rows whose request part is the same, bit by bit."""
    if not len(rows):
        return []
    keys = np.concatenate(
        [
            np.ascontiguousarray(rows.request_ids, dtype=np.int64).view(np.uint8),
            np.ascontiguousarray(rows.request_numbers, dtype=np.float32).view(np.uint8),
        ],
        axis=1,
    )
    if not keys.shape[1]:
        return [np.arange(len(rows))]
    whole = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
    _, places = np.unique(whole, return_inverse=True)
    order = np.argsort(places, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(places[order])) + 1)
