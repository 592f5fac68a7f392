"""Rows for the second stage, its training, and how it shares the final score with the first.

Two kinds of logs. Where impressions without a positive signal are logged, each one is a row, with
features as of its moment. Where every row is positive, part of train is held out: retrieval is
fitted on the rest, its candidates are the rows, and what was held out is positive. Either way no
row's features have seen what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.impressions import impression_rows
from edgeml.data.interactions.preparing import Prepared
from edgeml.recommending.evaluation.rankings import ranking_metrics
from edgeml.recommending.pipeline import Pipeline, Policy, Shortlist, fuse
from edgeml.recommending.reranking import rerank_by_margin
from edgeml.recommending.retrieval.model import RetrievalModel, best_columns
from edgeml.tasks.recommendation.features import EventIndexes, RankingFeatures
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.tasks.recommendation.ranking import RankingRows
from edgeml.workflows.recommendation_first_stage import FACTORS, RetrievalChoice, fit_systems
from edgeml.workflows.recommendation_parts import EvaluationPart, part_of

# Below this share of rows without the positive signal a log holds no impressions to learn from.
_LEAST_NEGATIVE = 0.05
_CANDIDATES = 150
_HELD_OUT = 0.2
_FOLDS = 2
_MOST_REQUESTS = 4000
_MOST_CELLS = 10_000_000
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
_DIVERSITY = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
# How much of NDCG@10 a list may lose on validation to be more diverse.
_DIVERSITY_COST = 0.002


@dataclass(frozen=True, kw_only=True)
class RankerData:
    """What a ranker is trained and stopped by.

    Attributes:
        features: What makes its inputs.
        train: Rows to learn from.
        validation: Rows that stop the training.
        objective: ``pointwise`` for impressions, ``listwise`` for candidates.
    """

    features: RankingFeatures
    train: RankingRows
    validation: RankingRows
    objective: str


def ways_to_learn(prepared: Prepared, learn_from: str) -> tuple[str, ...]:
    """Return what a ranker can learn from: ``impressions``, ``candidates``, or both in turn."""
    if learn_from != "auto":
        return (learn_from,)
    shown = float((~prepared.train.positive).mean()) >= _LEAST_NEGATIVE
    return ("impressions", "candidates") if shown else ("candidates",)


def ranker_data(
    prepared: Prepared,
    choice: RetrievalChoice,
    part: EvaluationPart,
    *,
    learn_from: str,
    seed: int,
) -> RankerData:
    """Return a ranker's rows for a log.

    Args:
        prepared: The log.
        choice: What validation chose for retrieval.
        part: The validation part.
        learn_from: ``impressions`` or ``candidates``.
        seed: Of what is held out under the random split.
    """
    if learn_from == "impressions":
        both = np.concatenate([prepared.split.train, prepared.split.validation])
        rows = impression_rows(prepared, both)
        cut = len(prepared.split.train)
        numbers = np.arange(len(both))
        return RankerData(
            features=prepared.features,
            train=rows.take(numbers < cut),
            validation=rows.take(numbers >= cut),
            objective="pointwise",
        )
    features = replace(prepared.features, with_retrieval=True)
    num_users, num_items = len(prepared.user_ids), prepared.num_items

    def fitted(known: Interactions) -> RetrievalModel:
        # Closed forms alone: a contender was trained on what a fold holds out.
        plain = replace(choice, kind=FACTORS)
        return fit_systems(known, plain, num_users=num_users, num_items=num_items).served

    parts = []
    for fold in range(1 if prepared.rule.kind == "temporal" else _FOLDS):
        held = _held_out(prepared, part.at_ms, seed=seed + fold).sample(_MOST_REQUESTS, seed=seed)
        model = fitted(held.known)
        parts.append(candidate_rows(features, model, held, first_group=fold * num_users))
    model = fitted(prepared.train)
    return RankerData(
        features=features,
        train=RankingRows.concatenate(parts),
        validation=candidate_rows(features, model, part),
        objective="listwise",
    )


def _held_out(prepared: Prepared, at_ms: int, *, seed: int) -> EvaluationPart:
    """Return requests about a part of train: the last of it, or any under the random split."""
    train = prepared.train
    if prepared.rule.kind == "temporal":
        moment = int(np.quantile(train.times_ms, 1 - _HELD_OUT))
        held = train.times_ms >= moment
    else:
        moment = at_ms
        held = np.random.default_rng(seed).random(len(train)) < _HELD_OUT
    rest = train.take(~held)
    return part_of(
        "held out",
        train.take(held),
        before=rest,
        known=rest,
        at_ms=moment,
        num_users=len(prepared.user_ids),
        num_items=prepared.num_items,
    )


def candidate_rows(
    features: RankingFeatures,
    model: RetrievalModel,
    part: EvaluationPart,
    *,
    first_group: int = 0,
) -> RankingRows:
    """Return the best candidates of each request as rows; positive is what was then wanted.

    Args:
        features: What makes a ranker's inputs.
        model: Retrieval, fitted on what is known at the requests' moment.
        part: The requests.
        first_group: Number of the first request's group.
    """
    known = features.index(part.known)
    found = []
    step = max(1, _MOST_CELLS // model.num_items)
    for start in range(0, len(part), step):
        rows = np.arange(start, min(start + step, len(part)))
        found.append(_block(features, model, part, rows, known, first_group))
    return RankingRows.concatenate(found)


def _block(
    features: RankingFeatures,
    model: RetrievalModel,
    part: EvaluationPart,
    rows: npt.NDArray[np.int64],
    known: EventIndexes,
    first_group: int,
) -> RankingRows:
    scores = model.scores(part.histories.rows(rows))
    seen = part.seen.rows(rows)
    scores[seen.row_of_event, seen.items] = -np.inf
    top = best_columns(scores, min(_CANDIDATES, scores.shape[1]))
    real = top.items > 0
    place, rank = np.nonzero(real)
    items, users = top.items[real], part.users[rows][place]
    at = np.full(len(items), part.at_ms, dtype=np.int64)
    retrieval = np.stack([top.scores[real], rank.astype(np.float32)], axis=1)
    request_ids, request_numbers = features.request_part(known, users, at)
    candidate_ids, candidate_numbers = features.candidate_part(
        known,
        known,
        users,
        items,
        at,
        retrieval,
    )
    width = int(max(part.relevant.items.max(initial=0), items.max(initial=0))) + 1
    relevant = part.relevant.rows(rows)
    positive = np.isin(place * width + items, relevant.row_of_event * width + relevant.items)
    return RankingRows(
        request_ids=request_ids,
        request_numbers=request_numbers,
        candidate_ids=candidate_ids,
        candidate_numbers=candidate_numbers,
        labels={"positive": positive.astype(np.float32)},
        groups=first_group + rows[place],
    )


def choose_policy(
    pipeline: Pipeline,
    part: EvaluationPart,
    vectors: npt.NDArray[np.float32],
) -> tuple[Policy, dict[str, float]]:
    """Choose on validation how much the ranker counts, and how diverse a list may be.

    Args:
        pipeline: The stages; its policy's weight must not be 0.
        part: The validation part, or a sample of it.
        vectors: float32 ``(items, d)``: what items are like.

    Returns:
        The policy, and NDCG@10 on validation of each thing that was tried.
    """
    lists = [pipeline.shortlist(part.request(row)) for row in range(len(part))]
    by_weight = {weight: [_fused(row, weight) for row in lists] for weight in _WEIGHTS}
    per_user = {
        weight: _ndcg_of([row.items[:10] for row in rows], part)
        for weight, rows in by_weight.items()
    }
    tried = {f"ranking {weight:g}": float(np.nanmean(row)) for weight, row in per_user.items()}
    weight = _least_weight(per_user)
    fused = by_weight[weight]
    policy = replace(pipeline.policy, ranking_weight=weight)
    best, diversity = tried[f"ranking {weight:g}"], 1.0
    for share in _DIVERSITY[1:]:
        tops = []
        for row in fused:
            near = row.items[: policy.diversified]
            count = min(10, len(near))
            places = rerank_by_margin(row.scores[: len(near)], vectors[near], k=count, weight=share)
            tops.append(near[places])
        tried[f"diversity {share:g}"] = float(np.nanmean(_ndcg_of(tops, part)))
        if tried[f"diversity {share:g}"] < best * (1 - _DIVERSITY_COST):
            break
        diversity = share
    return replace(policy, diversity_weight=diversity), tried


def _fused(row: Shortlist, weight: float) -> Shortlist:
    """Return a shortlist ordered by another weight; one that was not ranked stays as it is."""
    if np.isnan(row.ranking).all():
        return row
    return fuse(row.items, row.retrieval, row.ranking, weight=weight, by_popularity=False)


def _least_weight(per_user: Mapping[float, npt.NDArray[np.float64]]) -> float:
    """Return the smallest weight that is within one standard error of the best one.

    Retrieval has been chosen on many more events than a few hundred validation users can tell
    apart: what they cannot tell apart is left to it.
    """
    best = max(per_user, key=lambda weight: float(np.nanmean(per_user[weight])))
    for weight in sorted(per_user):
        gap = per_user[best] - per_user[weight]
        error = float(np.nanstd(gap)) / np.sqrt(max(int(np.isfinite(gap).sum()), 1))
        if float(np.nanmean(gap)) <= error:
            return weight
    return best


def _ndcg_of(tops: list[npt.NDArray[np.int64]], part: EvaluationPart) -> npt.NDArray[np.float64]:
    """Return NDCG@10 of lists, one a request: float64 ``(requests,)``."""
    return ranking_metrics(padded(tops), part.relevant, k=10)["ndcg_at_10"]


def padded(tops: list[npt.NDArray[np.int64]], width: int = 10) -> npt.NDArray[np.int64]:
    """Return lists as int64 ``(requests, width)``, 0 where one is shorter."""
    table = np.zeros((len(tops), width), dtype=np.int64)
    for row, items in enumerate(tops):
        table[row, : len(items[:width])] = items[:width]
    return table
