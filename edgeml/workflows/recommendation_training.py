"""``finetune`` for the task ``recommendation``: a log in, a checkpoint with its evaluation out.

Everything is chosen on validation and reported once on test. What is shipped is then fitted again
on the whole log with the same choices: a service that starts tomorrow should know yesterday.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeml.core.files import check_place
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import Prepared, prepare
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import VectorModel
from edgeml.workflows.recommendation_checkpoint import CHECKPOINT, write_recommender
from edgeml.workflows.recommendation_embeddings import fit_bpr, fit_two_tower, tower_features
from edgeml.workflows.recommendation_evaluating import Evaluation, evaluate
from edgeml.workflows.recommendation_first_stage import (
    RetrievalChoice,
    choose_retrieval,
    fit_systems,
    names_of,
)
from edgeml.workflows.recommendation_parts import (
    EvaluationPart,
    evaluation_part,
    histories_of,
)
from edgeml.workflows.recommendation_second_stage import (
    IMPRESSIONS,
    SecondStage,
    second_stages,
    served_ranker,
    stages,
)
from edgeml.workflows.recommendation_settings import RecommenderSettings

_MOST_CELLS, _LEAST_USERS = 30_000_000, 50


@dataclass(frozen=True, kw_only=True)
class TrainedRecommender:
    """Everything that training found.

    Attributes:
        prepared: The log.
        choice: What validation chose for retrieval.
        second: The ranker that is served, and how it was chosen.
        others: NDCG@10 on validation of each way to learn a ranker.
        contenders: Retrieval models that were trained beside the closed forms.
        evaluation: On the test part.
        seconds: Wall time.
    """

    prepared: Prepared
    choice: RetrievalChoice
    second: SecondStage
    others: Mapping[str, float]
    contenders: Mapping[str, VectorModel]
    evaluation: Evaluation
    seconds: float


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
    systems = fit_systems(validation.known, choice, **sizes, contenders=contenders)
    found = second_stages(prepared, choice, systems, sample, settings, say=say)
    evaluation = _evaluation(
        prepared, choice, found, contenders=contenders, settings=settings, progress=progress
    )
    return TrainedRecommender(
        prepared=prepared,
        choice=choice,
        second=found[0],
        others={row.learnt_from: round(row.validation_ndcg, 5) for row in found},
        contenders=contenders,
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


def _evaluation(
    prepared: Prepared,
    choice: RetrievalChoice,
    found: list[SecondStage],
    *,
    contenders: Mapping[str, VectorModel],
    settings: RecommenderSettings,
    progress: Progress,
) -> Evaluation:
    """Evaluate on test, with every model of retrieval fitted on what was known before it."""
    part = evaluation_part(prepared, "test")
    part = part.sample(settings.judged_on or len(part), seed=settings.seed)
    systems = fit_systems(
        part.known,
        choice,
        num_users=len(prepared.user_ids),
        num_items=prepared.num_items,
        contenders=contenders,
    )
    best = found[0]
    shown = next((row for row in found if row.learnt_from == IMPRESSIONS), None)
    with contextlib.ExitStack() as opened:
        scorer = opened.enter_context(served_ranker(best.ranker))
        judged = opened.enter_context(served_ranker(shown.ranker)) if shown else None
        return evaluate(
            prepared,
            part,
            stages(systems, best.data.features, part, scorer, best.policy),
            dict(names_of(systems)),
            systems.likeness,
            of_impressions=judged,
            shown_to=settings.judged_on,
            progress=progress,
        )
