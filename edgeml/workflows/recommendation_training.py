"""``finetune`` for the task ``recommendation``: a log in, a checkpoint with its evaluation out.

Everything is chosen on validation and reported once on test. What is shipped is then fitted again
on the whole log with the same choices: a service that starts tomorrow should know yesterday.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.archives import write_archive
from edgeml.core.files import check_place, sha256_of, staged_folder, write_json
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import Prepared, prepare
from edgeml.exporting.ranker_graphs import trace_ranker
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.pipeline import Pipeline, Policy
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.host import check_threads
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.tasks.recommendation.ranking import RankingRows
from edgeml.tasks.recommendation.tables import EncodedTable
from edgeml.training.recommendation.ranker_files import save_ranker
from edgeml.training.recommendation.ranker_loop import TrainedRanker, train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_evaluating import END_TO_END, Evaluation, evaluate
from edgeml.workflows.recommendation_files import Parts, write_parts
from edgeml.workflows.recommendation_first_stage import (
    RetrievalChoice,
    Systems,
    choose_retrieval,
    fit_systems,
    names_of,
)
from edgeml.workflows.recommendation_parts import EvaluationPart, evaluation_part
from edgeml.workflows.recommendation_ranker import RankerData, choose_policy, ranker_data
from edgeml.workflows.recommendation_settings import RecommenderSettings

TASK = "recommendation"
CHECKPOINT = "checkpoint.json"
SCHEMA_VERSION = 1
ROWS = ("calibration", "selection")
_POLICY_USERS = 1000
_KEPT_ROWS = 60_000


@dataclass(frozen=True, kw_only=True)
class TrainedRecommender:
    """Everything that training found.

    Attributes:
        prepared: The log.
        choice: What validation chose for retrieval.
        data: The ranker's rows.
        ranker: The second stage.
        policy: How the stages work together.
        tried: NDCG@10 on validation of each policy.
        evaluation: On the test part.
        seconds: Wall time.
    """

    prepared: Prepared
    choice: RetrievalChoice
    data: RankerData
    ranker: TrainedRanker
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
    _write(out, trained, settings)
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
    say("choosing retrieval on validation", stage="retrieval")
    sample = validation.sample(settings.chosen_on, seed=settings.seed)
    in_time = prepared.rule.kind == "temporal"
    choice = choose_retrieval(prepared.train, sample, **sizes, in_time=in_time)
    say("gathering the ranker's rows", stage="ranker")
    rows = ranker_data(prepared, choice, sample, learn_from=settings.learn_from, seed=settings.seed)
    ranker = train_ranker(
        rows.features.fields,
        rows.train,
        rows.validation,
        _ranker_settings(settings, rows.objective),
        report=lambda note: say(note, stage="ranker"),
    )
    say("choosing how the stages share the score", stage="policy")
    systems = fit_systems(validation.known, choice, **sizes)
    policy = Policy(num_candidates=min(settings.num_candidates, prepared.num_items - 1))
    with served_ranker(ranker) as scorer:
        pipeline = _pipeline(systems, rows.features, validation, scorer, policy)
        asked = sample.sample(_POLICY_USERS, seed=settings.seed)
        policy, tried = choose_policy(pipeline, asked, systems.likeness)
        evaluation = _evaluation(
            prepared, choice, rows.features, scorer, policy, settings=settings, progress=progress
        )
    return TrainedRecommender(
        prepared=prepared,
        choice=choice,
        data=rows,
        ranker=ranker,
        policy=policy,
        tried=tried,
        evaluation=evaluation,
        seconds=time.monotonic() - start,
    )


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
    settings: RecommenderSettings,
    progress: Progress,
) -> Evaluation:
    """Evaluate on test, with every model fitted on what was known before it."""
    part = evaluation_part(prepared, "test")
    part = part.sample(settings.judged_on or len(part), seed=settings.seed)
    systems = fit_systems(
        part.known, choice, num_users=len(prepared.user_ids), num_items=prepared.num_items
    )
    return evaluate(
        prepared,
        part,
        _pipeline(systems, features, part, scorer, policy),
        dict(names_of(systems)),
        systems.likeness,
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


def _ranker_settings(settings: RecommenderSettings, objective: str) -> RankerSettings:
    pointwise = objective == "pointwise"
    batch_size = settings.batch_size or (1024 if pointwise else 32)
    base = RankerSettings()
    return replace(
        base,
        objective=objective,  # type: ignore[arg-type]
        hidden=settings.hidden,
        max_epochs=settings.epochs,
        batch_size=batch_size,
        learning_rate=settings.learning_rate or base.learning_rate,
        seed=settings.seed,
        num_threads=check_threads(settings.num_threads),
    )


def refitted(trained: TrainedRecommender, settings: RecommenderSettings) -> Parts:
    """Return the parts that are shipped: fitted on the whole log, or as they were evaluated."""
    prepared, features = trained.prepared, trained.data.features
    events, num_items = prepared.events, prepared.num_items
    if settings.refit:
        num_items = len(prepared.item_ids)
        features = _wider(features, num_items=num_items)
    else:
        part = evaluation_part(prepared, "test")
        events = part.known.take(part.known.items < num_items)
    systems = fit_systems(
        events, trained.choice, num_users=len(prepared.user_ids), num_items=num_items
    )
    return Parts(
        features=features,
        events=events,
        user_ids=prepared.user_ids,
        item_ids=prepared.item_ids[:num_items],
        served=systems.served,
        likeness=systems.likeness,
        popularity=systems.popularity,
        policy=trained.policy,
        source=described(trained),
    )


def described(trained: TrainedRecommender) -> dict[str, Any]:
    """Return name, hash, split and choices as JSON values."""
    log = trained.prepared.log
    return {
        "data": log.name,
        "fingerprint": log.fingerprint(),
        "files": dict(log.source),
        "rule": asdict(trained.prepared.rule),
        "notes": list(trained.prepared.notes),
        "retrieval": trained.choice.to_json(),
        "policy": {"tried": {name: round(row, 5) for name, row in trained.tried.items()}},
    }


def _wider(features: RankingFeatures, *, num_items: int) -> RankingFeatures:
    """Give items that came after train a row of unknown features."""
    table = features.items
    missing = num_items - len(table.ids)
    if missing <= 0:
        return features
    return replace(
        features,
        items=EncodedTable(
            encoders=table.encoders,
            ids=np.concatenate([table.ids, np.repeat(table.ids[:1], missing, axis=0)]),
            numbers=np.concatenate([table.numbers, np.repeat(table.numbers[:1], missing, axis=0)]),
        ),
        item_codes=np.concatenate([features.item_codes, np.zeros(missing, dtype=np.int64)]),
    )


def _write(out: Path, trained: TrainedRecommender, settings: RecommenderSettings) -> None:
    parts = refitted(trained, settings)
    with staged_folder(out) as folder:
        version = write_parts(folder, parts)
        names = [*save_ranker(trained.ranker, folder)]
        kept = dict(zip(ROWS, (trained.data.train, trained.data.validation), strict=True))
        for name, rows in kept.items():
            arrays = some_rows(rows, seed=settings.seed).to_arrays()
            (folder / f"{name}.npz").write_bytes(write_archive(arrays))
            names.append(f"{name}.npz")
        trained.evaluation.write(folder / "eval")
        write_json(folder / "metrics.json", plain(trained.evaluation.metrics))
        inside = sorted(path for path in folder.rglob("*") if path.is_file())
        value = {
            "schema_version": SCHEMA_VERSION,
            "task": TASK,
            "model": f"{parts.served.kind} + wide and deep",
            "version": version,
            "data": described(trained),
            "settings": asdict(settings),
            "training": {
                "validation": trained.ranker.validation,
                "objective": trained.data.objective,
                "history": list(trained.ranker.history),
                "validation_ndcg_at_10": trained.validation_ndcg,
                "seconds": trained.seconds,
            },
            "provenance": {"python": platform.python_version(), "numpy": np.__version__},
            "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in inside},
        }
        write_json(folder / CHECKPOINT, value)


def some_rows(rows: RankingRows, *, seed: int) -> RankingRows:
    """Return whole groups of rows, drawn, of at most some ten thousand rows together."""
    if len(rows) <= _KEPT_ROWS:
        return rows
    names, counts = np.unique(rows.groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = names[order[np.cumsum(counts[order]) <= _KEPT_ROWS]]
    return rows.take(np.flatnonzero(np.isin(rows.groups, kept)))


def plain(value: Any) -> Any:
    """Return metrics as JSON values: figures that are not defined are null."""
    if isinstance(value, Mapping):
        return {str(key): plain(row) for key, row in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(row) for row in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def end_to_end(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures of the whole pipeline."""
    return dict(evaluation.metrics["systems"][END_TO_END])
