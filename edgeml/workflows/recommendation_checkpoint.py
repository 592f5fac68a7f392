"""A recommender's checkpoint: fitted again on the whole log, with the rows that judge variants."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.core.archives import write_archive
from edgeml.core.files import sha256_of, staged_folder, write_json
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.tasks.recommendation.ranking import RankingRows
from edgeml.tasks.recommendation.tables import EncodedTable
from edgeml.training.recommendation.ranker_files import save_ranker
from edgeml.workflows.recommendation_files import Parts, write_parts
from edgeml.workflows.recommendation_first_stage import FACTORS, fit_systems
from edgeml.workflows.recommendation_parts import evaluation_part
from edgeml.workflows.recommendation_settings import RecommenderSettings

if TYPE_CHECKING:
    from edgeml.workflows.recommendation_training import TrainedRecommender

TASK = "recommendation"
CHECKPOINT = "checkpoint.json"
SCHEMA_VERSION = 1
ROWS = ("calibration", "selection")
_KEPT_ROWS = 60_000


def write_recommender(
    out: Path, trained: TrainedRecommender, settings: RecommenderSettings
) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        out: Its folder.
        trained: What training found.
        settings: How it was trained.
    """
    parts = refitted(trained, settings)
    with staged_folder(out) as folder:
        version = write_parts(folder, parts)
        names = [*save_ranker(trained.second.ranker, folder)]
        kept = dict(
            zip(ROWS, (trained.second.data.train, trained.second.data.validation), strict=True)
        )
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
                "validation": trained.second.ranker.validation,
                "learnt_from": dict(trained.others),
                "objective": trained.second.data.objective,
                "history": list(trained.second.ranker.history),
                "sizes": trained.second.sizes,
                "validation_ndcg_at_10": trained.second.validation_ndcg,
                "seconds": trained.seconds,
            },
            "provenance": {"python": platform.python_version(), "numpy": np.__version__},
            "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in inside},
        }
        write_json(folder / CHECKPOINT, value)


def refitted(trained: TrainedRecommender, settings: RecommenderSettings) -> Parts:
    """Return the parts that are shipped: fitted on the whole log, or as they were evaluated."""
    prepared, features = trained.prepared, trained.second.data.features
    events, num_items = prepared.events, prepared.num_items
    if settings.refit and trained.choice.kind == FACTORS:
        num_items = len(prepared.item_ids)
        features = _wider(features, num_items=num_items)
    else:
        # A trained model knows the items of its training: the whole log counts, but for later ones.
        known = events if settings.refit else evaluation_part(prepared, "test").known
        events = known.take(known.items < num_items)
    systems = fit_systems(
        events,
        trained.choice,
        num_users=len(prepared.user_ids),
        num_items=num_items,
        contenders=trained.contenders if trained.choice.kind != FACTORS else {},
    )
    return Parts(
        features=features,
        events=events,
        user_ids=prepared.user_ids,
        item_ids=prepared.item_ids[:num_items],
        served=systems.served,
        likeness=systems.likeness,
        popularity=systems.popularity,
        policy=trained.second.policy,
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
        "policy": {"tried": {name: round(row, 5) for name, row in trained.second.tried.items()}},
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
