"""Films and short videos: a two-stage recommender on MovieLens-100k and, where it is, KuaiRand.

MovieLens-100k under RecBole's random protocol, for comparison with published figures; KuaiRand-Pure
under one split in time, as a service would meet it, where ``EDGEML_DATA_DIR`` has it. Every figure
of a data set can be recomputed from the lists below ``eval/``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgeml
from edgeml.core.progress import Progress, silent

FILMS, VIDEOS = "movielens-100k", "kuairand-pure"
_SHOWN = ("ndcg_at_10", "recall_at_10", "hit_at_10", "mrr_at_10")
_BEYOND = ("coverage", "gini", "novelty", "intra_list_diversity", "popularity_bias")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How much is run.

    Attributes:
        film_seeds: Seeds of RecBole's split; figures are their mean.
        videos: Settings for KuaiRand.
        contenders: Retrieval models that are trained beside the closed forms.
    """

    film_seeds: tuple[int, ...]
    videos: edgeml.RecommenderSettings
    contenders: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(film_seeds=(0,), videos=edgeml.RecommenderSettings(epochs=4, judged_on=3000)),
    "full": Preset(
        film_seeds=(0, 1, 2, 3, 4),
        videos=edgeml.RecommenderSettings(hidden=None),
        contenders=("bpr", "two_tower"),
    ),
}


def run(
    *, preset: str, place: Path, repository: Path, progress: Progress = silent
) -> edgeml.Report:
    """Run the recipe.

    Args:
        preset: ``quick`` (one seed) or ``full`` (five seeds, all users, trained contenders).
        place: Folder for checkpoints, bundles, evaluations and report.
        repository: Not used: serving the whole request is not part of this recipe.
        progress: Told of each step.

    Returns:
        The report that was written to ``place``.
    """
    del repository
    chosen = PRESETS[preset]
    metrics: dict[str, Any] = {FILMS: _films(chosen, place, progress)}
    rows = _bundle_rows(place / f"checkpoint-{FILMS}", place / "bundle", FILMS, progress)
    source = {"data": [FILMS], "not_run": ""}
    try:
        metrics[VIDEOS] = _videos(chosen, place, progress)
    except edgeml.EdgemlError as exc:
        if VIDEOS not in str(exc) or (place / f"checkpoint-{VIDEOS}").exists():
            raise
        # Where the set is not at hand the report says so; a damaged one is an error all the same.
        source["not_run"] = str(exc)
    else:
        source["data"] = [FILMS, VIDEOS]
        checkpoint = place / f"checkpoint-{VIDEOS}"
        rows += _bundle_rows(checkpoint, place / f"bundle-{VIDEOS}", VIDEOS, progress)
    report = edgeml.Report(
        recipe="video",
        preset=preset,
        source=source,
        rows=rows,
        metrics=metrics,
        tables=[table for name in source["data"] for table in _tables(name, metrics[name])],
    )
    edgeml.write_report(place, report)
    return report


def _films(chosen: Preset, place: Path, progress: Progress) -> dict[str, Any]:
    """Train once a seed; keep the first seed's checkpoint, whose lists lie in ``eval/`` itself."""
    found = []
    for seed in chosen.film_seeds:
        first = seed == chosen.film_seeds[0]
        checkpoint = place / (f"checkpoint-{FILMS}" if first else f"checkpoint-seed-{seed}")
        trained = edgeml.finetune(
            task="recommendation",
            data=FILMS,
            out=checkpoint,
            settings=edgeml.RecommenderSettings(
                split="random", seed=seed, refit=first, contenders=chosen.contenders
            ),
            progress=progress,
        )
        found.append({"seed": seed, **dict(trained.metrics or {})})
        target = place / "eval" if first else place / "eval" / FILMS / f"seed-{seed}"
        _keep_lists(checkpoint, target)
        if not first:
            shutil.rmtree(checkpoint)
    return mean_of_seeds(found)


def _videos(chosen: Preset, place: Path, progress: Progress) -> dict[str, Any]:
    checkpoint = place / f"checkpoint-{VIDEOS}"
    trained = edgeml.finetune(
        task="recommendation",
        data=VIDEOS,
        out=checkpoint,
        settings=replace(chosen.videos, contenders=chosen.contenders),
        progress=progress,
    )
    _keep_lists(checkpoint, place / "eval" / VIDEOS)
    return dict(trained.metrics or {})


def _keep_lists(checkpoint: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("split.npz", "top10.npz"):
        shutil.copyfile(checkpoint / "eval" / name, target / name)


def mean_of_seeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first seed's figures, with the means over all seeds in the systems' place.

    Args:
        found: What an evaluation gave, with its ``seed``.

    Returns:
        The same keys; ``seeds`` holds each seed's NDCG@10 and recall@10. Intervals are over users,
        so they are left out where a figure is a mean over seeds.
    """
    first = {key: value for key, value in found[0].items() if key != "seed"}
    each = [
        {
            "seed": row["seed"],
            **{
                name: {key: figures[key] for key in ("ndcg_at_10", "recall_at_10")}
                for name, figures in row["systems"].items()
            },
        }
        for row in found
    ]
    if len(found) > 1:
        first["systems"] = {
            name: {
                key: sum(row["systems"][name][key] for row in found) / len(found)
                for key, value in figures.items()
                if isinstance(value, float)
            }
            for name, figures in first["systems"].items()
        }
    return {**first, "num_seeds": len(found), "seeds": each}


def _bundle_rows(
    checkpoint: Path, place: Path, data: str, progress: Progress
) -> list[dict[str, Any]]:
    """Export, verify, ask once, and return one row a variant."""
    exported = edgeml.export(checkpoint, out=place, name=f"video-{data}", progress=progress)
    verification = edgeml.verify(place)
    if not verification.ok:
        failed = [check.name for check in verification.checks if not check.ok]
        raise edgeml.EdgemlError(f"the new bundle fails {', '.join(failed)}; see edgeml verify")
    with edgeml.load_recommender(place) as recommender:
        recommender.recommend(recommender.catalogue.user_ids[1], 10)
    return [
        {**row, "target": f"edge {data}", "samples": None, "threads": 1, "batch": 500}
        for row in exported.rows
    ]


def _tables(name: str, metrics: Mapping[str, Any]) -> list[edgeml.ReportTable]:
    """Return what the page shows of a data set."""
    seeds = metrics.get("num_seeds", 1)
    protocol = metrics["protocol"]
    title = f"{name}: {protocol['split']} split, full ranking, {protocol['users_judged']} users"
    title += f", mean of {seeds} seeds" if seeds > 1 else ""
    columns = ("system", *_SHOWN, *_BEYOND)
    rows = [
        (system, *(_text(figures.get(key)) for key in columns[1:]))
        for system, figures in metrics["systems"].items()
    ]
    tables = [edgeml.ReportTable(title=title, columns=columns, rows=rows)]
    gaps = [
        (pair, _text(row["ndcg_at_10"]), _interval(row["ndcg_at_10_interval"]))
        for pair, row in metrics["comparisons"].items()
    ]
    tables.append(
        edgeml.ReportTable(
            title=f"{name}: differences of NDCG@10, users drawn, first seed",
            columns=("difference", "NDCG@10", "95 % interval"),
            rows=gaps,
        )
    )
    stages = [
        (
            row["stage"],
            _text(row["ndcg_at_10"]),
            _text(row["loss"]),
            _interval(row["loss_interval"]),
        )
        for row in metrics["stages"]
    ]
    tables.append(
        edgeml.ReportTable(
            title=f"{name}: NDCG@10 left after each stage",
            columns=("stage", "left", "lost", "95 % interval"),
            rows=stages,
        )
    )
    if "impressions" in metrics:
        figures = [(key, _text(value)) for key, value in metrics["impressions"].items()]
        tables.append(
            edgeml.ReportTable(
                title=f"{name}: the ranker on what was logged, conditioned on the logging policy",
                columns=("figure", "value"),
                rows=figures,
            )
        )
    return tables


def _text(value: Any) -> str:
    if isinstance(value, list):
        return _interval(value)
    return format(value, ".4f") if isinstance(value, float) else str(value)


def _interval(bounds: Sequence[float]) -> str:
    return " to ".join(format(bound, ".4f") for bound in bounds)
