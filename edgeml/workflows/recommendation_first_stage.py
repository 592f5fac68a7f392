"""Fit the systems of the first stage, and choose on validation what is served.

EASE is solved over the items that are wanted most, as many as a dense matrix allows; all others are
reached by popularity, which is one more dimension of the served vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.recommending.evaluation.rankings import ranking_metrics
from edgeml.recommending.retrieval.biased import Biased
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.item_item import Ease, ItemKnn, LinearFactors, Popularity
from edgeml.recommending.retrieval.model import RetrievalModel, VectorModel, best_columns
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.workflows.recommendation_parts import EvaluationPart, histories_of

Scores = npt.NDArray[np.float32]

FACTORS = "linear_factors"
_NO_MODELS: Mapping[str, VectorModel] = MappingProxyType({})
_DAY_MS = 86_400_000
_DENSE_ITEMS = 2500
_PENALTIES = (100.0, 250.0, 500.0)
_RANKS = (32, 128, 512)
_NEIGHBOURS = (50, 200)
_BIASES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
_WINDOWS_DAYS = (0.0, 1.0, 3.0, 7.0)
# A smaller rank that is this close to the best is preferred: it is served faster.
_RANK_SLACK = 0.0005
# From this share of the items on, a projection saves nothing.
_WHOLE_SHARE = 0.75
_EXTRA_DIRECTIONS, _ROUNDS = 16, 4
_LIKENESS = 48
_MOST_USERS = 20_000
# Vectors of more dimensions than this are not served.
_LARGEST_WHOLE = 2048


@dataclass(frozen=True, kw_only=True)
class RetrievalChoice:
    """What validation chose for the first stage.

    Attributes:
        kind: The model that is served: ``linear_factors``, or a contender that was better.
        l2: Ridge penalty of EASE.
        rank: Dimension of the served vectors.
        neighbours: Of item-kNN.
        bias_weight: How much popularity counts in the served vectors, against the median spread
            of the model's scores.
        popularity_days: How many last days count as popularity; 0: all.
        tried: NDCG@10 on validation of each thing that was tried.
    """

    kind: str = FACTORS
    l2: float = 250.0
    rank: int = 256
    neighbours: int = 100
    bias_weight: float = 0.0
    popularity_days: float = 0.0
    tried: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Systems:
    """The first stage's systems, fitted on the same events.

    ``likeness`` is float32 ``(items, d)``, rows of length 1 or 0: items lie near each other where
    the same users wanted them. Diversity and reasons are told by it.
    """

    ease: RetrievalModel
    item_knn: RetrievalModel
    popularity: Popularity
    served: Biased
    likeness: Scores
    contenders: Mapping[str, VectorModel] = field(default_factory=dict)


@dataclass(frozen=True)
class Compact:
    """A closed-form model over some items, as one over all of them: the others score zero.

    Attributes:
        inner: The model over ``codes``.
        codes: int64 ``(inner items,)``: the item code of each of the model's; the first is 0.
        num_items: Item codes of the catalogue.
    """

    inner: RetrievalModel
    codes: npt.NDArray[np.int64]
    num_items: int

    @property
    def kind(self) -> str:
        """The inner model's name."""
        return self.inner.kind

    def scores(self, histories: Histories) -> Scores:
        """Return float32 ``(requests, num_items)``."""
        scores = np.zeros((len(histories), self.num_items), dtype=np.float32)
        scores[:, self.codes] = self.inner.scores(compacted(histories, self.codes))
        scores[:, 0] = -np.inf
        return scores


def compacted(histories: Histories, codes: npt.NDArray[np.int64]) -> Histories:
    """Return histories in the codes of a model over fewer items, without the other items."""
    places = np.zeros(max(int(codes.max()), int(histories.items.max(initial=0))) + 1, np.int64)
    places[codes] = np.arange(len(codes))
    items = places[histories.items]
    rows = histories.row_of_event[items > 0]
    counts = np.bincount(rows, minlength=len(histories))
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=items[items > 0],
        users=histories.users,
    )


def choose_retrieval(
    train: Interactions,
    part: EvaluationPart,
    *,
    num_users: int,
    num_items: int,
    in_time: bool,
    contenders: Mapping[str, VectorModel] = _NO_MODELS,
) -> RetrievalChoice:
    """Choose penalty, rank, neighbours and popularity by NDCG@10 on validation.

    Args:
        train: Events to fit on.
        part: The validation part, or a sample of it.
        num_users: User codes.
        num_items: Item codes of the catalogue.
        in_time: Whether all of train is before the part, so that its last days may count more.
        contenders: Models that were trained on the same events; the best is served.
    """
    codes = _frequent(train, num_items)
    inner = histories_of(train, num_users=num_users, num_items=num_items)
    tried: dict[str, float] = {}

    def score(name: str, model: RetrievalModel) -> float:
        tried[name] = ndcg(model.scores(part.histories), part)
        return tried[name]

    eases = {l2: _ease(inner, codes, l2) for l2 in _PENALTIES}
    l2 = max(
        _PENALTIES, key=lambda l2: score(f"ease l2={l2:g}", Compact(eases[l2], codes, num_items))
    )
    knn = {count: _knn(inner, codes, count) for count in _NEIGHBOURS}
    neighbours = max(
        _NEIGHBOURS,
        key=lambda count: score(f"item_knn k={count}", Compact(knn[count], codes, num_items)),
    )
    windows = [
        days for days in _WINDOWS_DAYS if not days or (in_time and days * _DAY_MS < _length(train))
    ]
    popular = {days: popularity_of(train, num_items, days) for days in windows}
    days = max(windows, key=lambda days: score(f"popularity days={days:g}", popular[days]))
    # A lower rank that is as good on validation was worse at test, so it is taken where it must be.
    if len(codes) <= _LARGEST_WHOLE:
        models = {len(codes): _factors(eases[l2], inner, codes, num_items, len(codes))}
    else:
        largest = _factors(eases[l2], inner, codes, num_items, max(_RANKS))
        models = {rank: _cut(largest, rank) for rank in _RANKS}
    ranks = sorted(models)
    by_rank = {rank: score(f"vectors rank={rank}", models[rank]) for rank in ranks}
    rank = min(rank for rank in ranks if by_rank[rank] >= max(by_rank.values()) - _RANK_SLACK)
    vectors: dict[str, VectorModel] = {FACTORS: models[rank], **contenders}
    bias, best = _bias(popular[days]), {}
    for kind, model in vectors.items():
        plain = model.scores(part.histories)
        scale = _spread(plain)
        by_weight = {weight: ndcg(plain + weight * scale * bias, part) for weight in _BIASES}
        tried |= {f"{kind} + {weight:g} popularity": value for weight, value in by_weight.items()}
        weight = max(_BIASES, key=by_weight.__getitem__)
        best[kind] = (by_weight[weight], weight * scale)
    kind = max(best, key=lambda kind: best[kind][0])
    return RetrievalChoice(
        kind=kind,
        l2=l2,
        rank=rank,
        neighbours=neighbours,
        bias_weight=best[kind][1],
        popularity_days=days,
        tried={name: round(value, 5) for name, value in tried.items()},
    )


def fit_systems(
    events: Interactions,
    choice: RetrievalChoice,
    *,
    num_users: int,
    num_items: int,
    contenders: Mapping[str, VectorModel] = _NO_MODELS,
) -> Systems:
    """Fit every system of the first stage on the same events.

    Args:
        events: What is known.
        choice: What validation chose.
        num_users: User codes.
        num_items: Item codes of the catalogue.
        contenders: Models that were trained before; these are not trained again.
    """
    codes = _frequent(events, num_items)
    inner = histories_of(events, num_users=num_users, num_items=num_items)
    ease = _ease(inner, codes, choice.l2)
    popularity = popularity_of(events, num_items, choice.popularity_days)
    model = contenders.get(choice.kind)
    if model is None:
        model = _factors(ease, inner, codes, num_items, choice.rank)
    return Systems(
        ease=Compact(ease, codes, num_items),
        item_knn=Compact(_knn(inner, codes, choice.neighbours), codes, num_items),
        popularity=popularity,
        served=Biased(model, choice.bias_weight * _bias(popularity)),
        likeness=_likeness(inner, codes, num_items),
        contenders=contenders,
    )


def popularity_of(events: Interactions, num_items: int, days: float) -> Popularity:
    """Return how often items were wanted in the last days of the events; 0 days: ever."""
    wanted = events.positives()
    wanted = wanted.take(wanted.items < num_items)
    since = int(events.times_ms.max(initial=0)) - int(days * _DAY_MS)
    recent = (wanted.times_ms > since) if days else np.ones(len(wanted), dtype=bool)
    # What the window leaves equal is ordered by all times.
    weights = recent + 1e-3 * ~recent
    return Popularity.fit(wanted.items, num_items=num_items, weights=weights.astype(np.float64))


def ndcg(scores: Scores, part: EvaluationPart) -> float:
    """Return mean NDCG@10 of full rankings, what was seen left out."""
    masked = scores.copy()
    masked[part.seen.row_of_event, part.seen.items] = -np.inf
    masked[:, 0] = -np.inf
    top = best_columns(masked, min(10, masked.shape[1])).items
    lists = np.pad(top, ((0, 0), (0, 10 - top.shape[1])))
    return float(np.nanmean(ranking_metrics(lists, part.relevant, k=10)["ndcg_at_10"]))


def _frequent(events: Interactions, num_items: int) -> npt.NDArray[np.int64]:
    """Return the codes that a dense model is solved over, 0 first, then ascending."""
    wanted = events.positives().items
    counts = np.bincount(wanted[wanted < num_items], minlength=num_items)
    best = np.argsort(-counts, kind="stable")[:_DENSE_ITEMS]
    kept = np.sort(best[counts[best] > 0])
    return np.concatenate([[0], kept[kept > 0]]).astype(np.int64)


def _pairs(histories: Histories) -> tuple[Any, Any, int]:
    return histories.row_of_event, histories.items, len(histories)


def _active(histories: Histories, codes: npt.NDArray[np.int64]) -> Histories:
    """Return the rows that say something of the model's items, in its codes."""
    found = compacted(histories, codes)
    return found.rows(np.flatnonzero(found.lengths))


def _some(histories: Histories) -> Histories:
    """Return at most some ten thousand users: enough to tell directions by."""
    if len(histories) <= _MOST_USERS:
        return histories
    return histories.rows(np.random.default_rng(0).permutation(len(histories))[:_MOST_USERS])


def _ease(histories: Histories, codes: npt.NDArray[np.int64], l2: float) -> Ease:
    users, items, count = _pairs(_active(histories, codes))
    return Ease.fit(users, items, num_users=count, num_items=len(codes), l2=l2)


def _knn(histories: Histories, codes: npt.NDArray[np.int64], neighbours: int) -> ItemKnn:
    users, items, count = _pairs(_active(histories, codes))
    return ItemKnn.fit(users, items, num_users=count, num_items=len(codes), neighbours=neighbours)


def _factors(
    ease: Ease, histories: Histories, codes: npt.NDArray[np.int64], num_items: int, rank: int
) -> LinearFactors:
    """Return EASE as vectors over the whole catalogue.

    The weights are projected onto the directions in which the users' scores vary most; near full
    rank they are left as they are, each item a direction of its own.
    """
    if rank >= _WHOLE_SHARE * len(codes):
        fold_in, basis = ease.weights, np.eye(len(codes), dtype=np.float32)
    else:
        active = _some(_active(histories, codes))
        basis = _directions(active.sums(ease.weights), rank)
        fold_in = ease.weights @ basis
    wide = []
    for table in (fold_in, basis):
        full = np.zeros((num_items, table.shape[1]), dtype=np.float32)
        full[codes] = table
        full[0] = 0
        wide.append(full)
    return LinearFactors(fold_in=wide[0], item_vectors=wide[1])


def _directions(scores: Scores, rank: int) -> Scores:
    """Return the main directions of users' scores, by subspace iteration from a fixed start.

    Args:
        scores: float32 ``(users, items)``.
        rank: How many.

    Returns:
        float32 ``(items, rank)``, orthonormal, the strongest first.
    """
    width = min(rank + _EXTRA_DIRECTIONS, scores.shape[1])
    basis = np.random.default_rng(0).standard_normal((scores.shape[1], width)).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(scores.T @ (scores @ basis))[0]
    small = scores @ basis
    _, turns = np.linalg.eigh(small.T @ small)
    return np.ascontiguousarray((basis @ turns[:, ::-1])[:, :rank], dtype=np.float32)


def _cut(factors: LinearFactors, rank: int) -> LinearFactors:
    return LinearFactors(
        fold_in=np.ascontiguousarray(factors.fold_in[:, :rank]),
        item_vectors=np.ascontiguousarray(factors.item_vectors[:, :rank]),
    )


def _likeness(histories: Histories, codes: npt.NDArray[np.int64], num_items: int) -> Scores:
    """Return what items are like by who wanted them, each item's users counted to length 1."""
    active = _some(_active(histories, codes))
    has = active.matrix(len(codes))
    has /= np.maximum(np.linalg.norm(has, axis=0, keepdims=True), 1)
    basis = _directions(has, min(_LIKENESS, len(codes)))
    rows = basis * np.linalg.norm(has @ basis, axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    full = np.zeros((num_items, rows.shape[1]), dtype=np.float32)
    full[codes] = rows
    full[0] = 0
    return full


def _bias(popularity: Popularity) -> Scores:
    """Return popularity between 0 and 1, on a logarithmic scale."""
    logs = np.log1p(popularity.counts)
    return np.asarray(logs / max(float(logs.max()), 1e-9), dtype=np.float32)


def _spread(scores: Scores) -> float:
    """Return the median standard deviation of a request's scores, never 0."""
    return float(np.median(scores[:, 1:].std(axis=1))) or 1.0


def _length(events: Interactions) -> int:
    return int(events.times_ms.max() - events.times_ms.min())


def names_of(systems: Systems) -> Iterator[tuple[str, RetrievalModel]]:
    """Yield the systems of their own by their names in reports."""
    yield "ease", systems.ease
    yield "item_knn", systems.item_knn
    yield "popularity", systems.popularity
    yield from systems.contenders.items()
