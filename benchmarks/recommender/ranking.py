"""Rankers on KuaiRand: ours beside tuned logistic regression and gradient boosting.

``EDGEML_DATA_DIR=... python -m benchmarks.recommender.ranking --out FILE`` trains each system's
trials on 04-25..30, takes the best of them on 05-01, and reads the test week once: AUC with paired
bootstrap intervals over users. All three get the same rows and features (as of each impression's
moment, so earlier days of the test week count) and the same number of trials; one thread each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from edgeml.data.interactions.impressions import impression_rows
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import prepare
from edgeml.recommending.evaluation.impressions import auc, gauc, log_loss
from edgeml.recommending.evaluation.intervals import auc_interval
from edgeml.tasks.recommendation.ranking import RankingFields, RankingRows
from edgeml.training.recommendation.ranker_loop import train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings

Scores = npt.NDArray[np.floating]
# Gives probabilities for any rows.
Scorer = Callable[[RankingRows], Scores]
_CROSSES = (("tab", "tag"), ("tab", "item"), ("user_active_degree", "tag"))
# As many tries for each system.
_LOGISTIC = tuple({"C": c, "bins": bins} for bins in (0, 8) for c in (0.003, 0.03, 0.3))
_BOOSTING: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.08, "max_iter": 100, "max_leaf_nodes": 31, "min_samples_leaf": 100},
    {"learning_rate": 0.08, "max_iter": 120, "max_leaf_nodes": 15, "min_samples_leaf": 200},
    {"learning_rate": 0.05, "max_iter": 250, "max_leaf_nodes": 15, "min_samples_leaf": 200},
    {"learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 31, "min_samples_leaf": 300},
    {"learning_rate": 0.10, "max_iter": 150, "max_leaf_nodes": 8, "min_samples_leaf": 100},
    {"learning_rate": 0.03, "max_iter": 300, "max_leaf_nodes": 31, "min_samples_leaf": 200},
)
_WIDE_AND_DEEP: tuple[dict[str, Any], ...] = (
    {},
    {"table_penalty": 1e-3},
    {"table_penalty": 1e-4},
    {"bins": 4},
    {"hidden": (32,)},
    {"crosses": _CROSSES},
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of settings and what validation said of it."""

    settings: Mapping[str, Any]
    validation_auc: float
    seconds: float


def matrix(rows: RankingRows) -> npt.NDArray[np.float32]:
    """Return all columns side by side, codes first."""
    return np.concatenate(
        [rows.request_ids, rows.candidate_ids, rows.request_numbers, rows.candidate_numbers],
        axis=1,
        dtype=np.float32,
        casting="unsafe",
    )


def logistic(fields: RankingFields, rows: RankingRows, settings: Mapping[str, Any]) -> Scorer:
    """Return a logistic regression over one-hot codes and scaled or binned numbers."""
    codes = len(fields.request_ids) + len(fields.candidate_ids)
    width = codes + len(fields.request_numbers) + len(fields.candidate_numbers)
    parts = [
        ("codes", OneHotEncoder(handle_unknown="ignore"), list(range(codes))),
        ("numbers", StandardScaler(), list(range(codes, width))),
    ]
    if settings["bins"]:
        bins = KBinsDiscretizer(
            settings["bins"],
            encode="onehot",
            subsample=None,
            quantile_method="averaged_inverted_cdf",
        )
        parts.append(("bins", bins, list(range(codes, width))))
    model = make_pipeline(
        ColumnTransformer(parts), LogisticRegression(C=settings["C"], max_iter=300)
    )
    model.fit(matrix(rows), rows.labels["positive"])
    return lambda other: model.predict_proba(matrix(other))[:, 1]


def boosting(fields: RankingFields, rows: RankingRows, settings: Mapping[str, Any]) -> Scorer:
    """Return gradient boosting; small vocabularies are categories, others are ordered codes."""
    ids = (*fields.request_ids, *fields.candidate_ids)
    small = [place for place, field in enumerate(ids) if field.size <= 255]
    model = HistGradientBoostingClassifier(
        categorical_features=small,
        early_stopping=False,
        l2_regularization=5.0,
        random_state=0,
        **settings,
    )
    model.fit(matrix(rows), rows.labels["positive"])
    return lambda other: model.predict_proba(matrix(other))[:, 1]


def wide_and_deep(
    fields: RankingFields,
    rows: RankingRows,
    settings: Mapping[str, Any],
    validation: RankingRows,
) -> Scorer:
    """Return our ranker; validation stops it early."""
    given = dict(settings)
    fields = replace(fields, crosses=given.pop("crosses", ()))
    trained = train_ranker(fields, rows, validation, RankerSettings(num_threads=1, **given))

    @torch.inference_mode()
    def scorer(other: RankingRows) -> Scores:
        arrays = (
            other.request_ids,
            other.request_numbers,
            other.candidate_ids,
            other.candidate_numbers,
        )
        scores, _ = trained.module(*(torch.from_numpy(row) for row in arrays))
        return np.asarray(scores.numpy())

    return scorer


def main(arguments: list[str] | None = None) -> None:
    """Run every trial, then read the test week once."""
    parser = argparse.ArgumentParser(prog="benchmarks.recommender.ranking", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the figures go, as JSON")
    parser.add_argument("--trials", type=int, default=6, help="of each system")
    parser.add_argument("--data", default="kuairand-pure")
    given = parser.parse_args(arguments)
    prepared = prepare(open_log(given.data))
    train, validation, test = (
        impression_rows(prepared, part)
        for part in (prepared.split.train, prepared.split.validation, prepared.split.test)
    )
    fields = prepared.features.fields
    systems: dict[str, tuple[Any, Callable[..., Scorer]]] = {
        "wide_and_deep": (_WIDE_AND_DEEP, lambda *rest: wide_and_deep(*rest, validation)),
        "gradient_boosting": (_BOOSTING, boosting),
        "logistic_regression": (_LOGISTIC, logistic),
    }
    report: dict[str, Any] = {"rows": [len(train), len(validation), len(test)], "systems": {}}
    scores: dict[str, Scores] = {}
    for name, (grid, fit) in systems.items():
        trials, best = _tuned(name, grid[: given.trials], fit, fields, train, validation)
        scores[name] = best(test)
        report["systems"][name] = {"trials": [asdict(row) for row in trials]}
        report["systems"][name] |= _figures(test, scores[name])
    _compare(report, test, scores)
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)


def _tuned(
    name: str,
    grid: tuple[dict[str, Any], ...],
    fit: Callable[..., Scorer],
    fields: RankingFields,
    train: RankingRows,
    validation: RankingRows,
) -> tuple[list[Trial], Scorer]:
    trials: list[Trial] = []
    kept: Scorer | None = None
    for settings in grid:
        began = time.perf_counter()
        scorer = fit(fields, train, settings)
        figure = auc(validation.labels["positive"], scorer(validation))
        if not trials or figure > max(row.validation_auc for row in trials):
            kept = scorer
        seconds = time.perf_counter() - began
        trials.append(Trial(settings=settings, validation_auc=figure, seconds=seconds))
        sys.stderr.write(f"{name} {settings}: validation {figure:.4f}, {seconds:.0f} s\n")
    assert kept is not None
    return trials, kept


def _figures(rows: RankingRows, scores: Scores) -> dict[str, Any]:
    labels, found = (
        rows.labels["positive"],
        auc_interval(rows.groups, rows.labels["positive"], scores),
    )
    return {
        "auc": found.to_json(),
        "gauc": gauc(rows.groups, labels, scores),
        "log_loss": log_loss(labels, scores),
    }


def _compare(report: dict[str, Any], rows: RankingRows, scores: Mapping[str, Scores]) -> None:
    labels = rows.labels["positive"]
    report["wide_and_deep_minus"] = {
        name: auc_interval(
            rows.groups, labels, scores["wide_and_deep"], baseline=other, resamples=1000
        ).to_json()
        for name, other in scores.items()
        if name != "wide_and_deep"
    }


def _print(report: Mapping[str, Any]) -> None:
    for name, row in report["systems"].items():
        kept = {key: row[key] for key in ("auc", "gauc", "log_loss")}
        sys.stdout.write(f"{name} {json.dumps(kept)}\n")
    sys.stdout.write(f"difference of AUC {json.dumps(report['wide_and_deep_minus'])}\n")


if __name__ == "__main__":
    main()
