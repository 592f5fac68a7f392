"""What the image recipes share: fine-tune, export and prove, verify, publish, serve, compare."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import edgeml
from edgeml.core.progress import Progress, silent
from edgeml.core.timing import TimingPlan
from edgeml.workflows.pictures import latency_heading, latency_picture, pareto_picture
from edgeml.workflows.reporting import Picture
from edgeml.workflows.training_report import training_pictures, training_tables
from export.comparison_rows import comparison_row
from export.trainings import Training, train

_COMPARED = 2000
# A thousand calls each, from which a 99th percentile is told: half a minute for a ResNet-18.
_TIMING = TimingPlan(rounds=200, budget_s=120)


@dataclass(frozen=True, kw_only=True)
class ImageRecipe:
    """One preset of an image recipe.

    Attributes:
        name: Of the bundle and of the served model.
        data: A named data set.
        model: The backbone.
        image_size: Side of the input in pixels.
        settings: How to fine-tune; None chooses by the size of the data.
        options: Shares of the parts, and pictures of each class.
        overrides: Settings that replace those chosen by the size of the data.
        weights: ``pretrained``, or ``random`` to start from nothing.
        seeds: Seeds of further trainings, whose test accuracies are averaged with the first one's.
        robustness: Whether accuracy under damage is measured.
    """

    name: str
    data: str
    model: str
    image_size: int
    settings: edgeml.TrainingSettings | None = None
    options: edgeml.ImageOptions = field(default_factory=edgeml.ImageOptions)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: Any = "pretrained"
    seeds: tuple[int, ...] = ()
    robustness: bool = False


def run_image_recipe(
    recipe: ImageRecipe,
    *,
    preset: str,
    place: Path,
    repository: Path,
    resume: bool = False,
    progress: Progress = silent,
) -> edgeml.Report:
    """Run an image recipe.

    Args:
        recipe: Data and settings.
        preset: Its name, for the report.
        place: Folder for checkpoint, bundle and report.
        repository: The Triton repository to publish to.
        resume: Whether to take trainings that are finished in ``place``, and to go on with a killed
            one.
        progress: Told of each step.

    Returns:
        The report that was written to ``place``.
    """
    trainings = _trainings(recipe, place, resume=resume, progress=progress)
    trained = trainings[0]
    exported = edgeml.export(
        trained.checkpoint,
        out=place / "bundle",
        name=recipe.name,
        gate=edgeml.Gate(max_accuracy_drop=0.005),
        progress=progress,
    )
    verification = edgeml.verify(exported.bundle.path)
    if not verification.ok:
        failed = [check.name for check in verification.checks if not check.ok]
        raise edgeml.EdgemlError(f"the new bundle fails {', '.join(failed)}; see edgeml verify")
    published = edgeml.publish(exported.bundle, repository=repository)
    rows = _compare(trained.checkpoint, exported.bundle, repository)
    metrics = _metrics(trained, exported, published.version) | _seeds(recipe, trainings)
    training = edgeml.training_report(trained.checkpoint)
    data = dict(exported.bundle.manifest.provenance["data"])
    tables = training_tables(training, data.pop("findings"))
    if recipe.robustness:
        found = edgeml.robustness(
            exported.bundle.path, data=trained.checkpoint, num_threads=1, progress=progress
        )
        tables += found.tables()
        metrics["robustness"] = found.to_json()
    report = edgeml.Report(
        recipe=recipe.name,
        preset=preset,
        source={
            "model": recipe.model,
            "data": recipe.data,
            "weights": recipe.weights,
            **data,
        },
        rows=rows,
        metrics=metrics | {"fit": training["fit"]["verdict"], "why": training["fit"]["reason"]},
        curve=edgeml.training_curve(trained.checkpoint),
        tables=tables,
        pictures=[
            Picture(
                title=f"Latency of one picture: {latency_heading(rows)}", svg=latency_picture(rows)
            ),
            Picture(title="Accuracy, latency and size", svg=pareto_picture(rows)),
            *training_pictures(training, exported.bundle.manifest.labels),
        ],
    )
    edgeml.write_report(place, report)
    return report


def _asked(recipe: ImageRecipe, **changes: Any) -> dict[str, Any]:
    settings = recipe.settings
    if settings is not None and changes:
        settings = replace(settings, **changes)
    return {
        "data": recipe.data,
        "model": recipe.model,
        "image_size": recipe.image_size,
        "weights": recipe.weights,
        "settings": settings,
        "overrides": {**recipe.overrides, **changes} if settings is None else None,
        "options": recipe.options,
    }


def _trainings(
    recipe: ImageRecipe, place: Path, *, resume: bool, progress: Progress
) -> list[Training]:
    """Train once, and with each further seed of split, draw and training."""
    asked = {place / "checkpoint": _asked(recipe)}
    asked |= {place / f"checkpoint-{seed}": _asked(recipe, seed=seed) for seed in recipe.seeds}
    return [train(what, out, resume=resume, progress=progress) for out, what in asked.items()]


def _seeds(recipe: ImageRecipe, trainings: Sequence[Training]) -> dict[str, Any]:
    """Return the fp32 accuracy on the test part of each seed, and their spread."""
    if not recipe.seeds:
        return {}
    names = ("first", *(f"seed {seed}" for seed in recipe.seeds))
    values = [_test_accuracy(training.checkpoint) for training in trainings]
    return {
        "test_accuracy_by_seed": dict(zip(names, values, strict=True)),
        "test_accuracy_mean": statistics.fmean(values),
        "test_accuracy_deviation": statistics.stdev(values),
    }


def _test_accuracy(checkpoint: Path) -> float:
    tensors, targets = edgeml.load_split(checkpoint, part="test")
    with edgeml.load_checkpoint(checkpoint, channels_last=True) as predictor:
        right = 0
        for start in range(0, len(targets), 250):
            part = {name: array[start : start + 250] for name, array in tensors.items()}
            (answers,) = predictor.run(part).values()
            right += int((answers.argmax(axis=1) == targets[start : start + 250]).sum())
    return right / len(targets)


def _compare(checkpoint: Path, bundle: edgeml.Bundle, repository: Path) -> list[dict[str, Any]]:
    """Put torch, each variant and Triton side by side: one thread each, in turns."""
    tensors, labels = edgeml.load_split(checkpoint, limit=_COMPARED)
    manifest = bundle.manifest
    with edgeml.serve_triton(repository, models=[manifest.name]) as server:
        predictors = {"torch fp32": edgeml.load_checkpoint(checkpoint, num_threads=1)}
        for variant in manifest.variants:
            predictors[f"edge {variant.name}"] = edgeml.load(
                bundle, variant=variant.name, num_threads=1
            )
        served = edgeml.connect(server.grpc, model=manifest.name, bundle=bundle)
        predictors[f"triton-grpc {served.served_by.split('/')[2]}"] = served
        compared = edgeml.compare(
            predictors, tensors, baseline="edge fp32", labels=labels, plan=_TIMING
        )
        for predictor in predictors.values():
            predictor.close()
    return [comparison_row(comparison, manifest, samples=len(labels)) for comparison in compared]


def _metrics(trained: Any, exported: Any, version: int) -> dict[str, Any]:
    manifest = exported.bundle.manifest
    reported = manifest.variant(manifest.chosen).evidence
    fp32, int8 = manifest.variant("fp32"), manifest.variant("int8")
    figures = {
        "chosen": manifest.chosen,
        "test_accuracy": reported["reported_accuracy"],
        "test_samples": reported["reported"]["num_samples"],
        "validation_accuracy": trained.accuracy,
        "training_seconds": trained.seconds,
        "triton_version": version,
        "not_run": "fp16 was not run on a GPU",
    }
    if int8 is not None:
        figures |= {
            "int8_test_drop": int8.evidence["reported"]["drop"],
            "int8_test_drop_bound": int8.evidence["reported"]["upper_bound"],
            "int8_size_ratio": int8.size_bytes / fp32.size_bytes,
            "int8_speedup": int8.speedup,
            "fusion_share": int8.evidence["fusion"]["share"],
        }
    return figures
