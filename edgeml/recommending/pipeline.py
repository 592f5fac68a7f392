"""Retrieve, rank, fuse: from a request in codes to a shortlist with the scores of each stage.

Evaluation and serving both call this, one request at a time, so what was measured is what answers.
Diversity, rules and the log of exposures come after it and see nothing but the shortlist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import RetrievalModel, top_k
from edgeml.tasks.recommendation.features import EventIndexes, RankingFeatures
from edgeml.tasks.recommendation.interactions import Interactions

Integers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_TINY = 1e-6


class CandidateSource(Protocol):
    """Finds a user's candidates; the filter acts while it searches."""

    def retrieve(
        self,
        history: Integers,
        k: int,
        *,
        user: int = 0,
        exclude: Integers | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Candidates:
        """Return at most ``k`` items, best first."""
        ...


class Candidates(Protocol):
    """Items and scores, best first."""

    @property
    def items(self) -> Integers:
        """int64 ``(n,)``."""
        ...

    @property
    def scores(self) -> Scores:
        """float32 ``(n,)``."""
        ...


class RankingModel(Protocol):
    """Scores candidates; what depends on the request alone comes once."""

    def score(
        self,
        *,
        request_ids: Integers,
        request_numbers: Scores,
        candidate_ids: Integers,
        candidate_numbers: Scores,
    ) -> Scores:
        """Return float32 ``(candidates,)`` probabilities."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the stages work together; chosen on validation, stored in the bundle.

    Attributes:
        num_candidates: How many items retrieval hands to the ranker.
        ranking_weight: Share of the ranker in the final score, 0 to 1; the rest is retrieval's.
            0 leaves the ranker out.
        diversity_weight: Share of relevance when the list is diversified; 1 leaves it as it is.
        diversified: How many of the best are looked at when the list is diversified.
    """

    num_candidates: int = 500
    ranking_weight: float = 1.0
    diversity_weight: float = 1.0
    diversified: int = 100


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who asks, in codes.

    Attributes:
        user: Code; 0 is nobody known.
        history: int64 ``(n,)``: items the user wanted, oldest first.
        seen: int64 ``(m,)``: items that are not to be returned.
        at_ms: The moment; only events before it count.
        allowed: bool ``(items,)``: what may be returned; None: everything.
        context_ids: int64 ``(1, context)``; None: unknown.
        given: Whether the history was given with the request instead of taken from the log.
    """

    user: int
    history: Integers
    seen: Integers
    at_ms: int
    allowed: npt.NDArray[np.bool_] | None = None
    context_ids: Integers | None = None
    given: bool = False


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Candidates in the order of their final scores.

    Attributes:
        items: int64 ``(n,)``.
        retrieval: float32 ``(n,)``: scores of the first stage.
        ranking: float32 ``(n,)``: the ranker's probabilities; NaN where it was not asked.
        scores: float32 ``(n,)``, descending.
        by_popularity: Whether retrieval knew nothing of the user and took what is popular.
    """

    items: Integers
    retrieval: Scores
    ranking: Scores
    scores: Scores
    by_popularity: bool


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages of one bundle.

    Attributes:
        source: Retrieval for users with a history.
        popular: Retrieval for everybody else.
        features: What makes the ranker's inputs.
        known: The log's events, indexed.
        ranker: The second stage; None leaves the order to retrieval.
        policy: How they work together.
    """

    source: CandidateSource
    popular: RetrievalModel
    features: RankingFeatures
    known: EventIndexes
    ranker: RankingModel | None
    policy: Policy

    def shortlist(self, request: Request) -> Shortlist:
        """Answer a request with at most ``policy.num_candidates`` items."""
        items, retrieval, by_popularity = self.retrieve(request, self.policy.num_candidates)
        ranking = np.full(len(items), np.nan, dtype=np.float32)
        weight = self.policy.ranking_weight
        # What is popular has scores of another scale than those that the ranker has learnt from.
        unfit = by_popularity and self.features.with_retrieval
        if self.ranker is None or weight == 0 or unfit or not len(items):
            return _shortlist(items, retrieval, ranking, retrieval, by_popularity=by_popularity)
        ranking = self.rank(request, items, retrieval)
        return fuse(items, retrieval, ranking, weight=weight, by_popularity=by_popularity)

    def retrieve(self, request: Request, k: int) -> tuple[Integers, Scores, bool]:
        """Return items, their scores, and whether they are simply popular."""
        if len(request.history):
            found = self.source.retrieve(
                request.history,
                k,
                user=request.user,
                exclude=request.seen,
                allowed=request.allowed,
            )
            return found.items, found.scores, False
        top = top_k(
            self.popular,
            Histories.of([[]]),
            k,
            seen=Histories.of([request.seen]),
            allowed=request.allowed,
        )
        real = top.items[0] > 0
        return top.items[0][real], top.scores[0][real], True

    def rank(self, request: Request, items: Integers, retrieval: Scores) -> Scores:
        """Return the ranker's probabilities for items in the order of retrieval."""
        assert self.ranker is not None
        request_ids, request_numbers, candidate_ids, candidate_numbers = self.feed(
            request, items, retrieval
        )
        return self.ranker.score(
            request_ids=request_ids,
            request_numbers=request_numbers,
            candidate_ids=candidate_ids,
            candidate_numbers=candidate_numbers,
        )

    def feed(
        self, request: Request, items: Integers, retrieval: Scores
    ) -> tuple[Integers, Scores, Integers, Scores]:
        """Return the ranker's inputs for items in the order of retrieval."""
        features, at = self.features, np.full(len(items), request.at_ms, dtype=np.int64)
        users = np.full(len(items), request.user, dtype=np.int64)
        own = self._given(request) if request.given else self.known
        request_ids, request_numbers = features.request_part(
            own, users[:1], at[:1], request.context_ids
        )
        stage = None
        if features.with_retrieval:
            ranks = np.arange(len(items), dtype=np.float32)
            stage = np.stack([retrieval, ranks], axis=1)
        candidate_ids, candidate_numbers = features.candidate_part(
            self.known, own, users, items, at, stage
        )
        return request_ids, request_numbers, candidate_ids, candidate_numbers

    def _given(self, request: Request) -> EventIndexes:
        """Index a history that came with the request: average events, all of them wanted."""
        items, count = request.history, len(request.history)
        signals = {
            name: np.full(count, np.expm1(mean) if kind == "amount" else mean, dtype=np.float32)
            for (name, kind), mean in zip(
                self.features.signals, self.features.means[1:], strict=True
            )
        }
        return self.features.index(
            Interactions(
                users=np.full(count, request.user, dtype=np.int64),
                items=items,
                times_ms=request.at_ms - 1000 * np.arange(count, 0, -1, dtype=np.int64),
                positive=np.ones(count, dtype=bool),
                signals=signals,
            )
        )


def fuse(
    items: Integers, retrieval: Scores, ranking: Scores, *, weight: float, by_popularity: bool
) -> Shortlist:
    """Order candidates by both stages: each one's scores in its own standard deviations.

    Args:
        items: int64 ``(n,)``.
        retrieval: float32 ``(n,)``.
        ranking: float32 ``(n,)`` probabilities.
        weight: The ranker's share.
        by_popularity: As in :class:`Shortlist`.
    """
    bounded = np.clip(ranking.astype(np.float64), _TINY, 1 - _TINY)
    odds = np.log(bounded / (1 - bounded))
    scores = weight * _standard(odds) + (1 - weight) * _standard(retrieval.astype(np.float64))
    return _shortlist(
        items, retrieval, ranking, scores.astype(np.float32), by_popularity=by_popularity
    )


def _standard(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _shortlist(
    items: Integers, retrieval: Scores, ranking: Scores, scores: Scores, *, by_popularity: bool
) -> Shortlist:
    order = np.argsort(-scores, kind="stable")
    return Shortlist(
        items=items[order],
        retrieval=retrieval[order],
        ranking=ranking[order],
        scores=scores[order],
        by_popularity=by_popularity,
    )
