"""``export`` for the task ``recommendation``: a checkpoint in, a bundle of ranker variants out."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeml.core.archives import read_archive
from edgeml.core.bundle import Bundle, write_bundle
from edgeml.core.files import sha256_of, staged_folder
from edgeml.core.manifest import Manifest, Variant
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import DataError, EdgemlError
from edgeml.runtime.host import detect_host
from edgeml.tasks.recommendation.ranking import RankingRows
from edgeml.training.recommendation.ranker_files import load_ranker
from edgeml.workflows.exporting import Exported
from edgeml.workflows.recommendation_checkpoint import CHECKPOINT, ROWS, SCHEMA_VERSION, TASK
from edgeml.workflows.recommendation_files import FILES, FOLDER, Parts, read_parts, write_parts
from edgeml.workflows.recommendation_ranking import RankerExport, RankerGate, export_ranker
from edgeml.workflows.recommendation_verifying import NUM_REQUESTS, write_golden_requests
from edgeml.workflows.reporting import Report, write_report
from edgeml.workflows.search_report import report_folder


def export_recommender(
    source: Path,
    *,
    out: Path,
    name: str | None,
    version: str,
    gate: RankerGate | None = None,
    progress: Progress = silent,
) -> Exported:
    """Judge the ranker's variants and pack the bundle; see :func:`edgeml.export`.

    Raises:
        DataError: The checkpoint is damaged.
        ExportError: The ranker cannot be traced.
    """
    start = time.monotonic()

    def say(note: str) -> None:
        done = int(time.monotonic() - start)
        progress(ProgressEvent(stage="export", done=done, total=0, note=note))

    value, parts, rows = _read(source)
    trained = load_ranker(source)
    with staged_folder(out) as folder:
        made = export_ranker(
            trained, folder, calibration=rows[0], selection=rows[1], gate=gate, report=say
        )
        parts_version = write_parts(folder, parts)
        if parts_version != value["version"]:
            reason = f"parts of version {parts_version} in a checkpoint of {value['version']}"
            raise DataError(source=str(source), reason=f"{reason}; train it again")
        manifest = _manifest(out, value, parts, made, name=name, version=version)
        say("writing golden requests")
        write_golden_requests(folder, write_bundle(folder, manifest, place=out), _users(parts))
        write_bundle(folder, manifest, place=out)
    bundle = Bundle.read(out)
    table = tuple(_row(row) for row in bundle.manifest.variants)
    seconds = time.monotonic() - start
    report = report_folder(out)
    _write_report(report, bundle, table, source, seconds=seconds)
    return Exported(bundle=bundle, rows=table, report=report, seconds=seconds)


def _read(source: Path) -> tuple[dict[str, Any], Parts, tuple[RankingRows, RankingRows]]:
    """Read a checkpoint after comparing the hash of each file."""
    try:
        value = json.loads((source / CHECKPOINT).read_bytes())
        if value["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {value['schema_version']}, expected {SCHEMA_VERSION}")
        for relative, expected in value["files"].items():
            if sha256_of(source / relative) != expected:
                raise ValueError(f"{relative} has changed since it was written")
        parts, _ = read_parts(lambda relative: source / relative, path=str(source))
        first, second = (
            RankingRows.from_arrays(read_archive((source / f"{name}.npz").read_bytes()))
            for name in ROWS
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, EdgemlError) as exc:
        reason = f"the checkpoint is damaged ({type(exc).__name__}: {exc}); train it again"
        raise DataError(source=str(source), reason=reason) from exc
    return dict(value), parts, (first, second)


def _users(parts: Parts) -> list[str]:
    """Return the users with the longest histories, and nobody else: golden lists are personal."""
    catalogue = parts.catalogue()
    order = np.argsort(-np.diff(catalogue.liked_offsets), kind="stable")
    # Who has had nearly everything has nothing left to be recommended.
    most = len(parts.item_ids) // 2
    fit = [int(user) for user in order if 0 < len(catalogue.liked(int(user))) <= most]
    return [parts.user_ids[user] for user in fit[:NUM_REQUESTS]]


def _manifest(
    out: Path,
    value: dict[str, Any],
    parts: Parts,
    made: RankerExport,
    *,
    name: str | None,
    version: str,
) -> Manifest:
    variants: tuple[Variant, ...] = made.variants
    return Manifest(
        name=name or out.absolute().name.removesuffix(".bundle"),
        version=version,
        task=TASK,
        signature=parts.features.fields.signature,
        preprocessing={
            "kind": TASK,
            "version": value["version"],
            "files": list(FILES),
            "folder": FOLDER,
        },
        labels=(),
        variants=variants,
        chosen=made.chosen,
        chosen_by_device={"cpu": made.chosen, "gpu": "fp32"},
        files={row.file: row.sha256 for row in variants},
        provenance={
            "model": value["model"],
            "data": value["data"],
            "training": value["training"],
            "seed": value["settings"]["seed"],
            "judged": [dict(row) for row in made.rows],
            "versions": {
                **value["provenance"],
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
                "python": platform.python_version(),
            },
            "host": detect_host().to_json(),
        },
    )


def _row(variant: Variant) -> dict[str, Any]:
    """Return DESIGN's keys; what a classifier calls accuracy is the AUC here."""
    evidence = variant.evidence
    return {
        "name": variant.name,
        "precision": variant.precision,
        "engine": variant.engine,
        "size_bytes": variant.size_bytes,
        "accuracy": variant.accuracy,
        "accuracy_drop": evidence.get("auc_drop"),
        "agreement": evidence.get("top10_overlap"),
        "p50_ms": variant.p50_ms,
        "speedup": variant.speedup,
        "verdict": variant.verdict,
        "reason": variant.reason,
        "batch_safe": variant.batch_safe,
        "reported_accuracy": None,
        "ndcg_at_10": evidence.get("ndcg_at_10"),
    }


def _write_report(
    place: Path, bundle: Bundle, rows: tuple[dict[str, Any], ...], source: Path, *, seconds: float
) -> None:
    metrics = json.loads((source / "metrics.json").read_bytes())
    report = Report(
        recipe=bundle.manifest.name,
        preset="export",
        source={"checkpoint": source.name, "data": bundle.manifest.provenance["data"]["data"]},
        rows=list(rows),
        metrics={"seconds": round(seconds, 3), **metrics},
    )
    write_report(place, report)
