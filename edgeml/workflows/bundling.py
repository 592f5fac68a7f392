"""Pack candidates and their verdicts into a bundle, whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgeml.core.bundle import REFERENCE, Golden, write_bundle, write_golden
from edgeml.core.files import sha256_of, staged_folder, write_json
from edgeml.core.manifest import Manifest, Variant
from edgeml.exporting.checks import GOLDEN_TOLERANCE
from edgeml.runtime.host import detect_host
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.sources import Source

_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Everything that goes into one bundle.

    Attributes:
        name: The bundle's name.
        version: Its version.
        source: What was exported, its contract, and where the golden examples come from.
        golden: Indices of the golden examples.
        candidates: The measured variants, fp32 first.
        broken: Name to reason of candidates that cannot be used and are not in the bundle.
        verdicts: Variant name to verdict and reason; one is ``chosen``.
        for_batches: Name of the variant that answers batches.
        selection: What the variants were compared on.
        seed: Seed of the export.
    """

    name: str
    version: str
    source: Source
    golden: list[int]
    candidates: tuple[Candidate, ...]
    verdicts: Mapping[str, tuple[str, str]]
    broken: Mapping[str, str]
    for_batches: str
    selection: LabelledSamples
    seed: int


def pack(place: Path, packing: Packing) -> None:
    """Write the bundle at ``place``; a kill leaves what stood there before."""
    source = packing.source
    with staged_folder(place) as folder:
        for relative, contents in source.files.items():
            (folder / relative).write_bytes(contents)
        variants = tuple(_write_variant(folder, row, packing) for row in packing.candidates)
        _write_golden(folder, packing)
        write_json(folder / REFERENCE, _reference(packing))
        chosen = next(row for row in variants if row.verdict == "chosen")
        half = next((row for row in packing.candidates if row.precision == "fp16"), None)
        manifest = Manifest(
            name=packing.name,
            version=packing.version,
            task=source.task_name,
            signature=source.signature,
            preprocessing=source.preprocessing,
            labels=source.labels,
            multi_label=source.multi_label,
            variants=variants,
            chosen=chosen.name,
            chosen_for_batches=packing.for_batches,
            chosen_by_device={
                "cpu": chosen.name,
                # Not faster on this CPU is no reason against it; being wrong is.
                "gpu": half.name if half and half.evidence["no_worse"] else "fp32",
            },
            files={row.file: row.sha256 for row in variants},
            provenance=_provenance(packing),
            proven=bool(chosen.evidence.get("accuracy", {}).get("proven", True)),
        )
        write_bundle(folder, manifest, place=place)


def _write_variant(folder: Path, candidate: Candidate, packing: Packing) -> Variant:
    relative = f"variants/{candidate.name}/model.onnx"
    path = folder / relative
    path.parent.mkdir(parents=True)
    onnx.save(candidate.model, path)
    assert candidate.probabilities is not None
    assert candidate.latency is not None
    verdict, reason = packing.verdicts[candidate.name]
    right = packing.selection.right(candidate.probabilities)
    return Variant(
        name=candidate.name,
        file=relative,
        precision=candidate.precision,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        opset=next(row.version for row in candidate.model.opset_import if row.domain == ""),
        tuned_for=candidate.tuned_for,
        accuracy=float(right.mean()),
        p50_ms=candidate.latency.p50_ms,
        speedup=candidate.latency.speedup,
        verdict=verdict,
        reason=reason,
        batch_safe=candidate.batch_safe,
        recipe=candidate.recipe,
        evidence=candidate.evidence,
    )


def _write_golden(folder: Path, packing: Packing) -> None:
    """Write golden inputs as files, the feed that they become, and each variant's answers to it."""
    source = packing.source
    inputs = folder / "golden/inputs"
    inputs.mkdir(parents=True)
    names, prepared = [], []
    for number, index in enumerate(packing.golden):
        data, suffix = source.encode(source.items[index])
        names.append(f"golden/inputs/{number}{suffix}")
        (folder / names[-1]).write_bytes(data)
        prepared.append(source.task.prepare(source.task.decode_golden(data)))
    tensors = source.task.collate(prepared)
    outputs: dict[str, Mapping[str, npt.NDArray[Any]]] = {}
    for candidate in packing.candidates:
        engine = candidate.engine(source.signature, num_threads=1)
        outputs[candidate.name] = engine.run(tensors)
        engine.close()
    golden = Golden(
        inputs=tuple(names),
        tensors=tensors,
        outputs=outputs,
        tolerance={row.name: GOLDEN_TOLERANCE[row.precision] for row in packing.candidates},
    )
    write_golden(folder, golden)


def _reference(packing: Packing) -> dict[str, Any]:
    """Describe validation inputs and each variant's confidences, for a drift monitor."""
    inputs = packing.selection.inputs
    edges = np.linspace(0, 1, _BINS + 1)
    variants = {}
    for candidate in packing.candidates:
        assert candidate.probabilities is not None
        ordered = np.sort(candidate.probabilities, axis=1)
        variants[candidate.name] = {
            "confidence": _histogram(ordered[:, -1], edges),
            "margin": _histogram(ordered[:, -1] - ordered[:, -2], edges),
            "predicted": np.bincount(
                candidate.probabilities.argmax(axis=1), minlength=len(packing.source.labels)
            ).tolist(),
        }
    return {
        "num_samples": len(inputs),
        "edges": edges.tolist(),
        "inputs": {
            name: _histogram(values, edges)
            for name, values in packing.source.describe(inputs).items()
        },
        "variants": variants,
    }


def _histogram(values: npt.NDArray[Any], edges: npt.NDArray[Any]) -> list[int]:
    counts: list[int] = np.histogram(np.clip(values, 0, 1), bins=edges)[0].tolist()
    return counts


def _provenance(packing: Packing) -> dict[str, Any]:
    origin = packing.source.provenance
    return {
        **origin,
        "data": {**origin["data"], "proven_on": packing.source.fingerprint},
        "broken": dict(packing.broken),
        "seed": packing.seed,
        "versions": {
            **origin["versions"],
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "host": detect_host().to_json(),
    }
