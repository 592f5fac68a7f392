"""The second stage: learnt in one way or another, with its share of the final score.

Where a log holds impressions there are two ways to learn a ranker. Both are tried, and the one
that is better end to end on validation is served; the one from impressions is judged on them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeml.data.interactions.preparing import Prepared
from edgeml.errors import DataError
from edgeml.exporting.ranker_graphs import trace_ranker
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.pipeline import Pipeline, Policy
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.host import check_threads
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.training.recommendation.ranker_loop import TrainedRanker, train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_first_stage import RetrievalChoice, Systems
from edgeml.workflows.recommendation_parts import EvaluationPart
from edgeml.workflows.recommendation_ranker import (
    RankerData,
    choose_policy,
    ranker_data,
    ways_to_learn,
)
from edgeml.workflows.recommendation_settings import RecommenderSettings
from edgeml.workflows.recommendation_size import choose_size

IMPRESSIONS = "impressions"
_POLICY_USERS, _LEAST_HALVES = 1000, 40


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """A ranker, and what was found of it on validation.

    Attributes:
        learnt_from: ``impressions`` or ``candidates``.
        data: Its rows.
        ranker: The ranker.
        sizes: What each size gained and cost, where several were tried.
        policy: How it works together with retrieval.
        tried: NDCG@10 on validation of each policy.
    """

    learnt_from: str
    data: RankerData
    ranker: TrainedRanker
    sizes: list[dict[str, object]]
    policy: Policy
    tried: Mapping[str, float]

    @property
    def validation_ndcg(self) -> float:
        """NDCG@10 on validation, end to end."""
        return self.tried[f"ranking {self.policy.ranking_weight:g}"]


def second_stages(
    prepared: Prepared,
    choice: RetrievalChoice,
    systems: Systems,
    part: EvaluationPart,
    settings: RecommenderSettings,
    *,
    say: Callable[..., None],
) -> list[SecondStage]:
    """Train a ranker in each way that the log and the settings allow, the best first.

    Args:
        prepared: The log.
        choice: What validation chose for retrieval.
        systems: Retrieval, fitted on what is known before validation.
        part: Requests of the validation part.
        settings: Everything else.
        say: Told of each step.

    Raises:
        DataError: No way leaves rows of both kinds.
    """
    found: list[SecondStage] = []
    # Who stops a training does not also say how good it is.
    numbers = np.arange(len(part))
    stopping, asked = part, part
    if len(part) >= _LEAST_HALVES:
        stopping, asked = part.rows(numbers[::2]), part.rows(numbers[1::2])
    asked = asked.sample(_POLICY_USERS, seed=settings.seed)
    ways = ways_to_learn(prepared, settings.learn_from)
    for way in ways:
        try:
            found.append(_learnt(way, prepared, choice, systems, (stopping, asked), settings, say))
        except DataError as exc:
            if way == ways[-1] and not found:
                raise
            say(f"no ranker from {way}: {exc}", stage="ranker")
    return sorted(found, key=lambda row: -row.validation_ndcg)


def _learnt(
    way: str,
    prepared: Prepared,
    choice: RetrievalChoice,
    systems: Systems,
    parts: tuple[EvaluationPart, EvaluationPart],
    settings: RecommenderSettings,
    say: Callable[..., None],
) -> SecondStage:
    """Train a ranker in one way, and choose how it works together with retrieval."""
    stopping, asked = parts
    candidates = min(settings.num_candidates, prepared.num_items - 1)
    say(f"gathering the ranker's rows from {way}", stage="ranker")
    data = ranker_data(prepared, choice, stopping, learn_from=way, seed=settings.seed)
    ranker, sizes = _ranker(
        data, settings, report=lambda note: say(note, stage="ranker"), candidates=candidates
    )
    say("choosing how the stages share the score", stage="policy")
    with served_ranker(ranker) as scorer:
        pipeline = stages(systems, data.features, asked, scorer, Policy(num_candidates=candidates))
        policy, tried = choose_policy(pipeline, asked, systems.likeness)
    return SecondStage(
        learnt_from=way, data=data, ranker=ranker, sizes=sizes, policy=policy, tried=tried
    )


def served_ranker(trained: TrainedRanker) -> Ranker:
    """Return a trained ranker as it is served: its graph, on one thread."""
    model = trace_ranker(trained.module, trained.fields)
    engine = OnnxEngine(model.SerializeToString(), settings=SessionSettings(num_threads=1))
    return Ranker(engine, trained.fields)


def stages(
    systems: Systems,
    features: RankingFeatures,
    part: EvaluationPart,
    scorer: Ranker,
    policy: Policy,
) -> Pipeline:
    """Put the stages together as of a part's moment."""
    return Pipeline(
        source=Retriever.build(systems.served),
        popular=systems.popularity,
        features=features,
        known=features.index(part.known),
        ranker=scorer,
        policy=policy,
    )


def _ranker(
    rows: RankerData,
    settings: RecommenderSettings,
    *,
    report: Callable[[str], None],
    candidates: int,
) -> tuple[TrainedRanker, list[dict[str, object]]]:
    """Train the ranker, of the size that was asked for or of the one that is worth most."""
    chosen = _ranker_settings(settings, rows.objective)
    fields = rows.features.fields
    if settings.hidden is not None:
        return train_ranker(fields, rows.train, rows.validation, chosen, report=report), []
    ranker, tried = choose_size(
        fields, rows.train, rows.validation, chosen, num_candidates=candidates, report=report
    )
    return ranker, [row.to_json() for row in tried]


def _ranker_settings(settings: RecommenderSettings, objective: str) -> RankerSettings:
    pointwise = objective == "pointwise"
    batch_size = settings.batch_size or (1024 if pointwise else 32)
    base = RankerSettings()
    return replace(
        base,
        objective=objective,  # type: ignore[arg-type]
        hidden=settings.hidden or base.hidden,
        max_epochs=settings.epochs,
        batch_size=batch_size,
        learning_rate=settings.learning_rate or base.learning_rate,
        seed=settings.seed,
        num_threads=check_threads(settings.num_threads),
    )
