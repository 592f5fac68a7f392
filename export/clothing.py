"""Clothing pictures: EfficientNet-Lite0 on Fashion-MNIST, at the edge and behind Triton.

The whole line of the product: fine-tune, export and prove, verify, publish, serve, compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgeml
from edgeml.core.progress import Progress, silent

_DATA = "fashion-mnist"
_MODEL = "efficientnet-lite0"
_COMPARED = 2000


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Size of the input in pixels, and passes over the data."""

    image_size: int
    epochs: int


PRESETS: Mapping[str, Preset] = {
    # One epoch at 64 pixels: minutes on two cores.
    "quick": Preset(image_size=64, epochs=1),
    "full": Preset(image_size=96, epochs=6),
}


def run(
    *, preset: str, place: Path, repository: Path, progress: Progress = silent
) -> edgeml.Report:
    """Run the recipe.

    Args:
        preset: ``quick`` or ``full``.
        place: Folder for checkpoint, bundle and report.
        repository: The Triton repository to publish to.
        progress: Told of each step.

    Returns:
        The report that was written to ``place``.
    """
    chosen = PRESETS[preset]
    trained = edgeml.finetune(
        data=_DATA,
        model=_MODEL,
        image_size=chosen.image_size,
        settings=edgeml.TrainingSettings(epochs=chosen.epochs),
        out=place / "checkpoint",
        progress=progress,
    )
    exported = edgeml.export(
        trained.checkpoint,
        out=place / "bundle",
        name="clothing",
        gate=edgeml.Gate(max_accuracy_drop=0.005),
        progress=progress,
    )
    verification = edgeml.verify(exported.bundle.path)
    if not verification.ok:
        failed = [check.name for check in verification.checks if not check.ok]
        raise edgeml.EdgemlError(f"the new bundle fails {', '.join(failed)}; see edgeml verify")
    published = edgeml.publish(exported.bundle, repository=repository)
    rows = _compare(trained.checkpoint, exported.bundle, repository)
    report = edgeml.Report(
        recipe="clothing",
        preset=preset,
        source={"model": _MODEL, "data": _DATA, **exported.bundle.manifest.provenance["data"]},
        rows=rows,
        metrics=_metrics(trained, exported, published.version),
        curve=_curve(trained.checkpoint),
    )
    edgeml.write_report(place, report)
    return report


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
        compared = edgeml.compare(predictors, tensors, baseline="edge fp32", labels=labels)
        for predictor in predictors.values():
            predictor.close()
    return [_row(comparison, manifest) for comparison in compared]


def _row(comparison: edgeml.Comparison, manifest: Any) -> dict[str, Any]:
    target, _, name = comparison.target.partition(" ")
    variant = manifest.variant(name) if target != "torch" else None
    return {
        **comparison.to_json(),
        "target": target,
        "name": name,
        "precision": variant.precision if variant else name,
        "engine": variant.engine if variant else "torch",
        "size_bytes": variant.size_bytes if variant else None,
        "agreement": None,
        "verdict": variant.verdict if variant else "reference",
        "reason": variant.reason if variant else "the checkpoint itself",
        "samples": _COMPARED,
        "threads": 1,
        "batch": 1,
    }


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


def _curve(checkpoint: Path) -> list[tuple[float, float]]:
    return edgeml.training_curve(checkpoint)
