"""What the text recipes share: fine-tune, export and prove, verify, publish, serve, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeml
from edgeml.core.progress import Progress, silent
from export.comparison_rows import comparison_row

_COMPARED = 500
_AGREED = 1000


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """One preset of a text recipe.

    Attributes:
        name: Of the bundle and of the served model.
        data: Named data sets, in the order of preference.
        settings: How to fine-tune.
        further: Named sets on which INT8 is compared with fp32 besides the test part.
        threshold_for: A class for which a threshold is chosen; None chooses none.
        precision: Share of what that threshold flags which shall be right.
    """

    name: str
    data: tuple[str, ...]
    settings: edgeml.TextTrainingSettings
    further: tuple[str, ...] = ()
    threshold_for: str | None = None
    precision: float = 0.9


def run_text_recipe(
    recipe: TextRecipe,
    *,
    preset: str,
    place: Path,
    repository: Path,
    progress: Progress = silent,
) -> edgeml.Report:
    """Run a text recipe.

    Args:
        recipe: Data and settings.
        preset: Its name, for the report.
        place: Folder for checkpoint, bundle and report.
        repository: The Triton repository to publish to.
        progress: Told of each step.

    Returns:
        The report that was written to ``place``.
    """
    found = edgeml.find_data(*recipe.data)
    trained = edgeml.finetune(
        task="text-classification",
        data=found.name,
        settings=recipe.settings,
        out=place / "checkpoint",
        progress=progress,
    )
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
    test = edgeml.load_items(trained.checkpoint, part="test")
    metrics = {
        **_metrics(trained, exported, published.version),
        **_further(recipe, exported.bundle),
        **_threshold(recipe, trained.checkpoint, exported.bundle, test),
    }
    training = edgeml.training_report(trained.checkpoint)
    rows, agreement = _serve(trained.checkpoint, exported, repository, test)
    report = edgeml.Report(
        recipe=recipe.name,
        preset=preset,
        source={
            "model": exported.bundle.manifest.provenance["model"],
            "data": found.name,
            "refused": dict(found.refused),
            **exported.bundle.manifest.provenance["data"],
        },
        rows=rows,
        metrics={**metrics, **agreement, **_calibration(training)},
        curve=edgeml.training_curve(trained.checkpoint),
        tables=_tables(training, exported.bundle.manifest.labels),
    )
    edgeml.write_report(place, report)
    return report


def _serve(
    checkpoint: Path, exported: Any, repository: Path, test: edgeml.Texts
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Serve the new bundle with Triton; compare every target, and ask all for the same answers."""
    manifest = exported.bundle.manifest
    names = [manifest.name, f"{manifest.name}_text"]
    with edgeml.serve_triton(repository, models=names) as server:
        served = edgeml.connect(server.grpc, model=names[0], bundle=exported.bundle)
        strings = edgeml.connect(server.grpc, model=names[1])
        with served, strings:
            rows = _compare(checkpoint, exported, test, {"grpc": served, "text": strings})
            more = edgeml.load_items(checkpoint, part="validation").items
            texts = (*test.items, *more)[:_AGREED]
            agreement = _agreement(exported.bundle, texts, {"ids": served, "strings": strings})
    return rows, agreement


def _compare(
    checkpoint: Path, exported: Any, test: edgeml.Texts, served: Mapping[str, edgeml.Predictor]
) -> list[dict[str, Any]]:
    """Put torch, each variant and Triton side by side, string to label, one thread, in turns."""
    bundle = exported.bundle
    manifest = bundle.manifest
    texts, targets = list(test.items[:_COMPARED]), test.targets[:_COMPARED]
    opened: dict[str, edgeml.Predictor] = {
        "torch fp32": edgeml.load_checkpoint(checkpoint, num_threads=1)
    }
    for variant in manifest.variants:
        opened[f"edge {variant.name}"] = edgeml.load(bundle, variant=variant.name, num_threads=1)
    remote = {f"triton-{kind} {row.served_by.split('/')[2]}": row for kind, row in served.items()}
    compared = edgeml.compare({**opened, **remote}, texts, baseline="edge fp32", labels=targets)
    for predictor in opened.values():
        predictor.close()
    rows = [comparison_row(comparison, manifest, samples=len(texts)) for comparison in compared]
    kept = {variant.name for variant in manifest.variants}
    return rows + [
        {"target": "candidate", **row} for row in exported.rows if row["name"] not in kept
    ]


def _agreement(
    bundle: edgeml.Bundle, texts: Sequence[str], served: Mapping[str, edgeml.Predictor]
) -> dict[str, Any]:
    """Count the texts whose label differs from the one that the edge gives them alone."""
    with edgeml.load(bundle, variant=bundle.manifest.chosen_for_batches) as predictor:
        alone = [predictor.predict(text) for text in texts]
        others = {"edge_batch": predictor.predict_batch(texts)}
    others |= {f"triton_{name}": row.predict_batch(texts) for name, row in served.items()}
    figures: dict[str, Any] = {"same_answer_texts": len(texts)}
    for name, answers in others.items():
        pairs = list(zip(alone, answers, strict=True))
        figures[f"other_label_{name}"] = sum(a.label != b.label for a, b in pairs)
        figures[f"largest_difference_{name}"] = max(
            abs(a.scores[label] - b.scores[label]) for a, b in pairs for label in a.scores
        )
    return figures


def _metrics(trained: Any, exported: Any, version: int) -> dict[str, Any]:
    manifest = exported.bundle.manifest
    fp32, int8 = manifest.variant("fp32"), manifest.variant("int8")
    reported = manifest.variant(manifest.chosen).evidence
    figures = {
        "chosen": manifest.chosen,
        "chosen_for_batches": manifest.chosen_for_batches,
        "test_accuracy": reported["reported_accuracy"],
        "test_accuracy_fp32": fp32.evidence["reported_accuracy"],
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
            "int8_recipe": dict(int8.recipe),
            "fusion_share": int8.evidence["fusion"]["share"],
        }
    return figures


def _further(recipe: TextRecipe, bundle: edgeml.Bundle) -> dict[str, Any]:
    """Compare the chosen variant with fp32 on more texts, pair by pair."""
    figures: dict[str, Any] = {}
    for name in (
        recipe.further if recipe.data[0] in bundle.manifest.provenance["data"]["name"] else ()
    ):
        texts = edgeml.load_texts(name)
        right = {}
        for variant in ("fp32", bundle.manifest.chosen):
            with edgeml.load(bundle, variant=variant) as predictor:
                # A batch would go to another variant where this one answers single items only.
                alone = not bundle.variant(variant).batch_safe
                answers = (
                    [predictor.predict(text) for text in texts.items]
                    if alone
                    else predictor.predict_batch(texts.items)
                )
            classes = np.array([texts.labels.index(str(row.label)) for row in answers])
            right[variant] = classes == texts.targets
        lost = int((right["fp32"] & ~right[bundle.manifest.chosen]).sum())
        gained = int((~right["fp32"] & right[bundle.manifest.chosen]).sum())
        figures[f"{name}_samples"] = len(texts.items)
        figures[f"{name}_accuracy_fp32"] = float(right["fp32"].mean())
        figures[f"{name}_drop"] = (lost - gained) / len(texts.items)
        figures[f"{name}_lost_gained"] = [lost, gained]
    return figures


def _threshold(
    recipe: TextRecipe, checkpoint: Path, bundle: edgeml.Bundle, test: edgeml.Texts
) -> dict[str, Any]:
    """Choose the lowest threshold of one class that keeps the precision; read it on test data."""
    if recipe.threshold_for is None:
        return {}
    validation = edgeml.load_items(checkpoint, part="validation")
    wanted = validation.labels.index(recipe.threshold_for)
    with edgeml.load(bundle) as predictor:
        chosen_on, read_on = (
            _scores(predictor, part, recipe.threshold_for) for part in (validation, test)
        )
    threshold = lowest_threshold(
        chosen_on, np.asarray(validation.targets == wanted), precision=recipe.precision
    )
    flagged = read_on >= threshold
    positive = np.asarray(test.targets == wanted)
    return {
        "threshold_class": recipe.threshold_for,
        "threshold": threshold,
        "threshold_wanted_precision": recipe.precision,
        "threshold_test_precision": float(positive[flagged].mean()) if flagged.any() else None,
        "threshold_test_recall": float(flagged[positive].mean()),
    }


def _scores(
    predictor: edgeml.Predictor, texts: edgeml.Texts, label: str
) -> npt.NDArray[np.float64]:
    return np.array([row.scores[label] for row in predictor.predict_batch(texts.items)])


def lowest_threshold(
    scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], *, precision: float
) -> float:
    """Return the lowest score from which at least ``precision`` of all samples are positive.

    Args:
        scores: float ``(samples,)``.
        positive: bool ``(samples,)``.
        precision: Share wanted.

    Returns:
        The threshold; 1.0 where no threshold keeps the precision.
    """
    order = np.argsort(-scores, kind="stable")
    share = np.cumsum(positive[order]) / np.arange(1, len(order) + 1)
    # Equal scores are flagged together: only the last of them is a threshold.
    ends = np.append(scores[order][1:] != scores[order][:-1], [True])
    good = np.flatnonzero(ends & (share >= precision))
    return float(scores[order][good[-1]]) if len(good) else 1.0


def _calibration(training: dict[str, Any]) -> dict[str, Any]:
    keys = ("temperature", "calibration_error", "macro_f1", "truncation")
    return {f"validation_{key}": training[key] for key in keys if key in training}


def _tables(training: dict[str, Any], labels: Sequence[str]) -> list[edgeml.ReportTable]:
    """Show what the validation part says of the checkpoint."""
    tables = []
    if confusion := training.get("confusion"):
        rows = [[label, *counts] for label, counts in zip(labels, confusion, strict=True)]
        columns = ["right \\ given", *labels]
        title = "Confusion on validation data"
        tables.append(edgeml.ReportTable(title=title, columns=columns, rows=rows))
    if per_class := training.get("classes"):
        columns = list(per_class[0])
        rows = [[row[column] for column in columns] for row in per_class]
        tables.append(edgeml.ReportTable(title="Each class", columns=columns, rows=rows))
    if hardest := training.get("hardest"):
        columns = list(hardest[0])
        rows = [[row[column] for column in columns] for row in hardest]
        tables.append(edgeml.ReportTable(title="Hardest errors", columns=columns, rows=rows))
    return tables
