"""``finetune`` for the task ``recommendation``: a log in, a checkpoint with its evaluation out.

Everything is chosen on validation and reported once on test. What is shipped is then fitted again
on the whole log with the same choices: a service that starts tomorrow should know yesterday.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeml.core.files import check_place
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import Prepared, prepare
from edgeml.exporting.ranker_graphs import trace_ranker
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.pipeline import Pipeline, Policy
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import VectorModel
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.host import check_threads
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.training.recommendation.ranker_loop import TrainedRanker, train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_checkpoint import CHECKPOINT, write_recommender
from edgeml.workflows.recommendation_embeddings import fit_bpr, fit_two_tower, tower_features
from edgeml.workflows.recommendation_evaluating import Evaluation, evaluate
from edgeml.workflows.recommendation_first_stage import (
    RetrievalChoice,
    Systems,
    choose_retrieval,
    fit_systems,
    names_of,
)
from edgeml.workflows.recommendation_parts import (
    EvaluationPart,
    evaluation_part,
    histories_of,
)
from edgeml.workflows.recommendation_ranker import RankerData, choose_policy, ranker_data
from edgeml.workflows.recommendation_settings import RecommenderSettings
from edgeml.workflows.recommendation_size import choose_size

_POLICY_USERS = 1000
_MOST_CELLS, _LEAST_USERS = 30_000_000, 50


@dataclass(frozen=True, kw_only=True)
class TrainedRecommender:
    """Everything that training found.

    Attributes:
        prepared: The log.
        choice: What validation chose for retrieval.
        data: The ranker's rows.
        ranker: The second stage.
        contenders: Retrieval models that were trained beside the closed forms.
        sizes: What each size of the ranker gained and cost, where several were tried.
        policy: How the stages work together.
        tried: NDCG@10 on validation of each policy.
        evaluation: On the test part.
        seconds: Wall time.
    """

    prepared: Prepared
    choice: RetrievalChoice
    data: RankerData
    ranker: TrainedRanker
    contenders: Mapping[str, VectorModel]
    sizes: list[dict[str, object]]
    policy: Policy
    tried: Mapping[str, float]
    evaluation: Evaluation
    seconds: float

    @property
    def validation_ndcg(self) -> float:
        """NDCG@10 on validation, end to end."""
        return self.tried[f"ranking {self.policy.ranking_weight:g}"]


def finetune_recommender(
    *,
    data: str | Path,
    schema: str | Path | None,
    out: Path,
    settings: RecommenderSettings,
    progress: Progress = silent,
) -> TrainedRecommender:
    """Train, evaluate and write a checkpoint; see :func:`edgeml.finetune`.

    Raises:
        InputError: ``out`` exists and is no checkpoint.
        DataError: The log or its schema is unfit.
    """
    check_place(out, marker=CHECKPOINT, kind="checkpoint")
    trained = train_recommender(data=data, schema=schema, settings=settings, progress=progress)
    progress(ProgressEvent(stage="write", done=0, total=1))
    write_recommender(out, trained, settings)
    return trained


def train_recommender(
    *,
    data: str | Path,
    schema: str | Path | None,
    settings: RecommenderSettings,
    progress: Progress = silent,
) -> TrainedRecommender:
    """Train and evaluate without writing anything."""
    start = time.monotonic()

    def say(note: str, *, stage: str = "train") -> None:
        progress(ProgressEvent(stage=stage, done=int(time.monotonic() - start), total=0, note=note))

    say("reading the log", stage="read")
    prepared = prepare(open_log(data, schema), split=settings.split, seed=settings.seed)
    for note in prepared.notes:
        say(note, stage="read")
    sizes = {"num_users": len(prepared.user_ids), "num_items": prepared.num_items}
    num_candidates = min(settings.num_candidates, prepared.num_items - 1)
    validation = evaluation_part(prepared, "validation")
    evaluation_part(prepared, "test")  # refused before the work, not after it
    say("choosing retrieval on validation", stage="retrieval")
    # Every user's scores of every item are held at once.
    most = max(_LEAST_USERS, _MOST_CELLS // prepared.num_items)
    sample = validation.sample(min(settings.chosen_on, most), seed=settings.seed)
    in_time = prepared.rule.kind == "temporal"
    contenders = _contenders(prepared, validation, settings, say)
    choice = choose_retrieval(
        prepared.train, sample, **sizes, in_time=in_time, contenders=contenders
    )
    say("gathering the ranker's rows", stage="ranker")
    rows = ranker_data(prepared, choice, sample, learn_from=settings.learn_from, seed=settings.seed)
    ranker, sizes_tried = _ranker(
        rows, settings, report=lambda note: say(note, stage="ranker"), candidates=num_candidates
    )
    say("choosing how the stages share the score", stage="policy")
    systems = fit_systems(validation.known, choice, **sizes, contenders=contenders)
    policy = Policy(num_candidates=num_candidates)
    with served_ranker(ranker) as scorer:
        pipeline = _pipeline(systems, rows.features, validation, scorer, policy)
        asked = sample.sample(_POLICY_USERS, seed=settings.seed)
        policy, tried = choose_policy(pipeline, asked, systems.likeness)
        evaluation = _evaluation(
            prepared,
            choice,
            rows.features,
            scorer,
            policy,
            contenders=contenders,
            settings=settings,
            progress=progress,
        )
    return TrainedRecommender(
        prepared=prepared,
        choice=choice,
        data=rows,
        ranker=ranker,
        contenders=contenders,
        sizes=sizes_tried,
        policy=policy,
        tried=tried,
        evaluation=evaluation,
        seconds=time.monotonic() - start,
    )


def _contenders(
    prepared: Prepared,
    part: EvaluationPart,
    settings: RecommenderSettings,
    say: Callable[..., None],
) -> dict[str, VectorModel]:
    """Train what was asked for on train, stopped by validation."""
    num_users, num_items = len(prepared.user_ids), prepared.num_items
    histories = histories_of(prepared.train, num_users=num_users, num_items=num_items)
    reachable = part.relevant.items < num_items
    wanted = Histories.by_user(
        part.users[part.relevant.row_of_event][reachable],
        part.relevant.items[reachable],
        num_users=num_users,
    )
    found: dict[str, VectorModel] = {}
    for name in settings.contenders:
        say(f"training {name}", stage="retrieval")
        if name == "bpr":
            found[name] = fit_bpr(histories, wanted, num_items=num_items).model
        else:
            found[name] = fit_two_tower(
                histories,
                wanted,
                user_features=tower_features(prepared.features.users, num_rows=num_users),
                item_features=tower_features(prepared.features.items, num_rows=num_items),
            ).model
    return found


def served_ranker(trained: TrainedRanker) -> Ranker:
    """Return a trained ranker as it is served: its graph, on one thread."""
    model = trace_ranker(trained.module, trained.fields)
    engine = OnnxEngine(model.SerializeToString(), settings=SessionSettings(num_threads=1))
    return Ranker(engine, trained.fields)


def _evaluation(
    prepared: Prepared,
    choice: RetrievalChoice,
    features: RankingFeatures,
    scorer: Ranker,
    policy: Policy,
    *,
    contenders: Mapping[str, VectorModel],
    settings: RecommenderSettings,
    progress: Progress,
) -> Evaluation:
    """Evaluate on test, with every model fitted on what was known before it."""
    part = evaluation_part(prepared, "test")
    part = part.sample(settings.judged_on or len(part), seed=settings.seed)
    systems = fit_systems(
        part.known,
        choice,
        num_users=len(prepared.user_ids),
        num_items=prepared.num_items,
        contenders=contenders,
    )
    return evaluate(
        prepared,
        part,
        _pipeline(systems, features, part, scorer, policy),
        dict(names_of(systems)),
        systems.likeness,
        shown_to=settings.judged_on,
        progress=progress,
    )


def _pipeline(
    systems: Systems,
    features: RankingFeatures,
    part: EvaluationPart,
    scorer: Ranker,
    policy: Policy,
) -> Pipeline:
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
