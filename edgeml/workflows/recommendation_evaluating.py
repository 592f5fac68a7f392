"""Evaluate a recommender on its test part: full rankings of every system, stage by stage.

End to end is what the pipeline answers, request by request, with the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.interactions.impressions import impression_rows
from edgeml.data.interactions.preparing import Prepared
from edgeml.recommending.evaluation.impressions import impression_metrics
from edgeml.recommending.evaluation.intervals import auc_interval, mean_interval, paired_interval
from edgeml.recommending.evaluation.rankings import ranking_metrics, recall_ceiling
from edgeml.recommending.evaluation.records import SplitRecord, TopRecord, write_split, write_top
from edgeml.recommending.evaluation.stages import stage_losses
from edgeml.recommending.evaluation.systems import evaluate_system
from edgeml.recommending.pipeline import Pipeline
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.recommending.reranking import rerank_by_margin
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import RetrievalModel, top_k
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.workflows.recommendation_parts import EvaluationPart
from edgeml.workflows.recommendation_ranker import padded

Lists = npt.NDArray[np.int64]
END_TO_END, RETRIEVAL, RANKER = "end_to_end", "retrieval", "impressions_ranker"
_K = 10


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: JSON values: ``systems``, ``comparisons``, ``stages``, ``protocol``.
        split: Who had what in which part.
        top: What each system answered.
    """

    metrics: Mapping[str, Any]
    split: SplitRecord
    top: TopRecord

    def write(self, folder: Path) -> None:
        """Write ``split.npz`` and ``top10.npz``, from which the figures can be recomputed."""
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder / "split.npz", self.split)
        write_top(folder / "top10.npz", self.top)


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What the pipeline answered to each request, stage by stage; 0 where a list is shorter."""

    retrieved: Lists
    ranked: Lists
    diversified: Lists
    candidates: Lists


def evaluate(
    prepared: Prepared,
    part: EvaluationPart,
    pipeline: Pipeline,
    systems: Mapping[str, RetrievalModel],
    vectors: npt.NDArray[np.float32],
    *,
    of_impressions: Ranker | None = None,
    shown_to: int | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate the pipeline and the systems beside it on the same requests.

    Args:
        prepared: The log.
        part: The requests, of the test part.
        pipeline: The stages, with everything chosen on validation.
        systems: Name to a model of its own: ``ease``, ``item_knn``, ``popularity``, and others.
        vectors: float32 ``(items, d)``: what items are like.
        of_impressions: A ranker that learnt from impressions, to be judged on test's; or None.
        shown_to: Most users whose logged impressions are judged; None: all.
        progress: Told of each step.
    """
    answers = _ask(pipeline, part, vectors, progress)
    lists = {RETRIEVAL: answers.retrieved, END_TO_END: answers.diversified}
    for name, model in systems.items():
        lists[name] = _lists(model, part)
    split = _split_record(prepared, part)
    judged = _judged(split, part)
    counts = np.bincount(split.parts["train"][1], minlength=prepared.num_items)
    figures = {
        name: evaluate_system(
            tops, part.relevant, counts=counts, histories=judged, item_vectors=vectors, k=_K
        )
        for name, tops in lists.items()
    }
    ceiling = mean_interval(recall_ceiling(answers.candidates, part.relevant))
    for name in (RETRIEVAL, END_TO_END):
        figures[name]["recall_at_500"] = ceiling.value
        figures[name]["recall_at_500_interval"] = [ceiling.low, ceiling.high]
    metrics: dict[str, Any] = {
        "systems": figures,
        "comparisons": _comparisons(lists, part),
        "stages": _stages(answers, part),
        "protocol": _protocol(prepared, part, pipeline),
    }
    top = TopRecord(users=part.users, lists=lists)
    if of_impressions is not None:
        metrics["impressions"], top = _impressions(prepared, of_impressions, top, shown_to)
    return Evaluation(metrics=metrics, split=split, top=top)


def _ask(
    pipeline: Pipeline,
    part: EvaluationPart,
    vectors: npt.NDArray[np.float32],
    progress: Progress,
) -> _Answers:
    retrieved, ranked, diversified, candidates = [], [], [], []
    policy = pipeline.policy
    for row in range(len(part)):
        if row % 500 == 0:
            progress(ProgressEvent(stage="evaluate", done=row, total=len(part)))
        answer = pipeline.shortlist(part.request(row))
        order = np.argsort(-answer.retrieval, kind="stable")
        retrieved.append(answer.items[order][:_K])
        ranked.append(answer.items[:_K])
        candidates.append(answer.items)
        if policy.diversity_weight >= 1 or len(answer.items) < 2:
            diversified.append(answer.items[:_K])
            continue
        near = answer.items[: policy.diversified]
        places = rerank_by_margin(
            answer.scores[: len(near)],
            vectors[near],
            k=min(_K, len(near)),
            weight=policy.diversity_weight,
        )
        diversified.append(near[places])
    return _Answers(
        retrieved=padded(retrieved),
        ranked=padded(ranked),
        diversified=padded(diversified),
        candidates=padded(candidates, width=policy.num_candidates),
    )


def _lists(model: RetrievalModel, part: EvaluationPart) -> Lists:
    """Return a model's exact full ranking, what was seen left out."""
    top = top_k(model, part.histories, min(_K, model.num_items - 1), seen=part.seen)
    return padded(list(top.items))


def _comparisons(lists: Mapping[str, Lists], part: EvaluationPart) -> dict[str, Any]:
    """Return the difference of NDCG@10 between end to end and each system, users drawn."""
    per_user = {
        name: ranking_metrics(tops, part.relevant, k=_K)["ndcg_at_10"]
        for name, tops in lists.items()
    }
    found = {}
    for name, values in per_user.items():
        if name != END_TO_END:
            gap = paired_interval(per_user[END_TO_END], values)
            found[f"{END_TO_END} - {name}"] = {
                "ndcg_at_10": gap.value,
                "ndcg_at_10_interval": [gap.low, gap.high],
            }
    return found


def _stages(answers: _Answers, part: EvaluationPart) -> list[dict[str, Any]]:
    losses = stage_losses(
        part.relevant,
        candidates={"retrieval": answers.candidates},
        rankings={"ranking": answers.ranked, "diversity": answers.diversified},
        k=_K,
    )
    return [
        {
            "stage": row.stage,
            "ndcg_at_10": row.ndcg,
            "loss": row.loss.value,
            "loss_interval": [row.loss.low, row.loss.high],
        }
        for row in losses
    ]


def _protocol(prepared: Prepared, part: EvaluationPart, pipeline: Pipeline) -> dict[str, Any]:
    masked = "train and validation"
    known = "train" if prepared.rule.kind == "random" else masked
    return {
        "split": prepared.rule.kind,
        "seed": prepared.rule.seed,
        "ranking": "full catalogue, nothing sampled",
        "masked_at_test": masked,
        "models_and_histories_from": known,
        "users_judged": len(part),
        "catalogue": prepared.num_items - 1,
        "rows": {
            name: len(getattr(prepared.split, name)) for name in ("train", "validation", "test")
        },
        "ranking_weight": pipeline.policy.ranking_weight,
        "diversity_weight": pipeline.policy.diversity_weight,
    }


def _impressions(
    prepared: Prepared, ranker: Ranker, top: TopRecord, shown_to: int | None
) -> tuple[dict[str, Any], TopRecord]:
    """Judge the ranker on the test part's logged impressions, as they were shown."""
    test = prepared.split.test
    users = np.random.default_rng(prepared.rule.seed).permutation(
        np.unique(prepared.events.users[test])
    )
    rows = impression_rows(prepared, test[np.isin(prepared.events.users[test], users[:shown_to])])
    scores = ranker.score_rows(rows)
    labels = rows.labels["positive"].astype(np.int8)
    found = impression_metrics(rows.groups, labels, scores, probabilities=scores)
    interval = auc_interval(rows.groups, labels, scores, resamples=200)
    found["auc_interval"] = [interval.low, interval.high]
    record = TopRecord(
        users=top.users,
        lists=top.lists,
        impression_users=rows.groups,
        impression_labels=labels,
        scores={RANKER: scores},
    )
    return found, record


def _split_record(prepared: Prepared, part: EvaluationPart) -> SplitRecord:
    """Return the parts as they count: train is what models saw, test what was newly wanted."""

    def wanted(events: Interactions) -> tuple[Lists, Lists]:
        found = events.positives()
        kept = found.items < prepared.num_items
        return found.users[kept], found.items[kept]

    return SplitRecord(
        parts={
            "train": wanted(prepared.train),
            "validation": wanted(prepared.validation),
            "test": (part.users[part.relevant.row_of_event], part.relevant.items),
        },
        user_ids=prepared.user_ids,
        item_ids=prepared.item_ids[: prepared.num_items],
    )


def _judged(split: SplitRecord, part: EvaluationPart) -> Histories:
    """Return the users' items of train alone: what segments and popularity are told by."""
    return split.histories("train").rows(part.users)
