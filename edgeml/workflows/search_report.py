"""What an export says: one row a candidate, and the report beside the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Variant
from edgeml.workflows.candidates import Candidate
from edgeml.workflows.pictures import pareto_picture, sensitivity_picture
from edgeml.workflows.proving import Proof
from edgeml.workflows.reporting import Picture, Report, ReportTable, write_report

_UNKNOWN = (
    "size_bytes",
    "accuracy",
    "accuracy_drop",
    "agreement",
    "p50_ms",
    "speedup",
    "batch_safe",
    "reported_accuracy",
)


def report_folder(place: Path) -> Path:
    """Return where the report of a bundle goes: beside it."""
    return place.absolute().with_name(f"{place.absolute().name.removesuffix('.bundle')}.report")


def rows_of(bundle: Bundle, proof: Proof) -> list[dict[str, Any]]:
    """Return one row a candidate: the bundle's, those not kept, and those that failed."""
    settled, labelled = proof.settled, proof.plan.standards.selection.targets is not None
    rows = [_kept_row(variant, labelled=labelled) for variant in bundle.manifest.variants]
    rows += [
        _dropped_row(row, settled.verdicts[row.name], labelled=labelled) for row in settled.dropped
    ]
    return rows + [_failed_row(row) for row in proof.found.candidates if not row.usable]


def _kept_row(variant: Variant, *, labelled: bool) -> dict[str, Any]:
    evidence = variant.evidence
    return {
        "name": variant.name,
        "precision": variant.precision,
        "engine": variant.engine,
        "size_bytes": variant.size_bytes,
        "accuracy": variant.accuracy,
        "accuracy_drop": _drop(evidence, labelled=labelled, answered=True),
        "agreement": _agreement(evidence),
        "p50_ms": variant.p50_ms,
        "speedup": variant.speedup,
        "verdict": variant.verdict,
        "reason": variant.reason,
        "batch_safe": variant.batch_safe,
        "reported_accuracy": evidence.get("reported_accuracy"),
    }


def _dropped_row(
    candidate: Candidate, verdict: tuple[str, str], *, labelled: bool
) -> dict[str, Any]:
    """Return the row of a candidate that was measured and is not kept in the bundle."""
    evidence, latency = candidate.evidence, candidate.latency
    answered = candidate.answers is not None
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        "engine": candidate.trial.engine,
        "size_bytes": candidate.size_bytes,
        "accuracy": evidence.get("accuracy", {}).get("candidate"),
        "accuracy_drop": _drop(evidence, labelled=labelled, answered=answered),
        "agreement": _agreement(evidence) if answered else None,
        "p50_ms": latency.p50_ms if latency else None,
        "speedup": latency.speedup if latency else None,
        "verdict": verdict[0],
        "reason": f"{verdict[1]}; not kept in the bundle",
        "batch_safe": candidate.batch_safe,
        "reported_accuracy": None,
    }


def _failed_row(candidate: Candidate) -> dict[str, Any]:
    """Return the row of a candidate that cannot be used, or was not tried."""
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        "engine": candidate.trial.engine,
        **dict.fromkeys(_UNKNOWN),
        "verdict": "rejected" if candidate.broken else "untried",
        "reason": candidate.broken or candidate.untried,
    }


def _drop(evidence: Any, *, labelled: bool, answered: bool) -> float | None:
    if not labelled or not answered:
        return None
    return float(evidence.get("accuracy", {}).get("drop", 0.0))


def _agreement(evidence: Any) -> float:
    return 1.0 - float(evidence.get("agreement", {}).get("flips", 0.0))


def write_search_report(
    folder: Path, bundle: Bundle, rows: Sequence[dict[str, Any]], proof: Proof, *, seconds: float
) -> None:
    """Write ``report.json`` and ``report.html`` of a search.

    Args:
        folder: Where to.
        bundle: What came of it.
        rows: From :func:`rows_of`.
        proof: What was searched and found.
        seconds: How long the export took.
    """
    manifest, found = bundle.manifest, proof.found
    blocks = found.sensitivity.get("blocks", [])
    space = [[row.name, row.kind, row.engine, str(row.describe())] for row in proof.plan.trials]
    pictures = [
        Picture(title="Latency and quality; a dot's area is its size", svg=pareto_picture(rows)),
        Picture(
            title="Error for each millisecond saved, by block", svg=sensitivity_picture(blocks)
        ),
    ]
    report = Report(
        recipe=manifest.name,
        preset="export",
        source={
            "model": manifest.provenance.get("model"),
            "data": proof.source.data_name,
            "host": manifest.provenance["host"],
            "notes": list(proof.source.notes),
        },
        rows=rows,
        metrics={
            "chosen": manifest.chosen,
            "chosen_for_batches": manifest.chosen_for_batches,
            "chosen_by_device": dict(manifest.chosen_by_device),
            "chosen_by_engine": dict(manifest.chosen_by_engine),
            "goal": proof.plan.standards.goal,
            "budget_s": proof.plan.budget_s,
            "seconds": seconds,
            "search_seconds": found.seconds,
            "jobs": found.jobs,
            "jobs_from_cache": found.cached,
            "peak_mb": max(
                (float(row.evidence.get("peak_mb", 0.0)) for row in found.candidates), default=0.0
            ),
            "sensitivity": found.sensitivity,
            "splits": {
                "calibration": len(proof.plan.calibration),
                "selection": len(proof.source.split.validation),
                "reporting": len(proof.source.split.test),
            },
            "evidence": {row.name: row.evidence for row in found.candidates if row.usable},
        },
        tables=[
            ReportTable(
                title="Search space", columns=("trial", "kind", "engine", "recipe"), rows=space
            )
        ],
        pictures=[row for row in pictures if row.svg],
    )
    write_report(folder, report)
