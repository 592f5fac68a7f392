"""Pack candidates and their verdicts into a bundle, whole or not at all."""

from __future__ import annotations

import platform
import shutil
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
from edgeml.core.manifest import ENGINE, Manifest, Variant
from edgeml.core.predictor import Engine
from edgeml.exporting.checks import GOLDEN_TOLERANCE
from edgeml.exporting.graph import operator_set
from edgeml.runtime.host import detect_host
from edgeml.runtime.one_by_one import OneByOne
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.judging import Settled
from edgeml.workflows.sources import Source

_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Everything that goes into one bundle.

    Attributes:
        name: The bundle's name.
        version: Its version.
        source: What was exported, its contract, and where the golden examples come from.
        settled: Verdicts, and the variants that are kept, fp32 first.
        made: Every candidate, those that cannot be used included.
        selection: What the variants were compared on.
        seed: Seed of the export.
    """

    name: str
    version: str
    source: Source
    settled: Settled
    made: tuple[Candidate, ...]
    selection: LabelledSamples
    seed: int


def pack(place: Path, packing: Packing) -> None:
    """Write the bundle at ``place``; a kill leaves what stood there before."""
    source, settled = packing.source, packing.settled
    with staged_folder(place) as folder:
        for relative, contents in source.files.items():
            (folder / relative).write_bytes(contents)
        files = _write_models(folder, settled.kept)
        variants = tuple(_variant(folder, files[row.name], row, packing) for row in settled.kept)
        _write_golden(folder, packing)
        write_json(folder / REFERENCE, _reference(packing))
        chosen = next(row for row in variants if row.verdict == "chosen")
        half = next((row for row in settled.kept if row.precision == "fp16"), None)
        # Not faster on this CPU is no reason against FP16 on a GPU; being wrong is.
        right = half is not None and half.evidence.get("no_worse", False)
        proven = bool(chosen.evidence.get("accuracy", {}).get("proven", not source.synthetic))
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
            chosen_for_batches=settled.for_batches,
            chosen_by_device={
                "cpu": chosen.name,
                "gpu": half.name if half is not None and right else settled.kept[0].name,
            },
            chosen_by_engine=settled.by_engine,
            files={row.file: row.sha256 for row in variants},
            provenance=_provenance(packing),
            data="synthetic" if source.synthetic else "real",
            proven=proven,
        )
        write_bundle(folder, manifest, place=place)


def _write_models(folder: Path, kept: list[Candidate]) -> dict[str, str]:
    """Copy each variant's model; variants that differ in their engine alone share a file."""
    written: dict[tuple[int, str], str] = {}
    files = {}
    for candidate in sorted(kept, key=lambda row: row.trial.engine != ENGINE):
        assert candidate.path is not None
        same = (candidate.path.stat().st_size, sha256_of(candidate.path))
        if same not in written:
            written[same] = f"variants/{candidate.name}/model.onnx"
            target = folder / written[same]
            target.parent.mkdir(parents=True)
            shutil.copyfile(candidate.path, target)
        files[candidate.name] = written[same]
    return files


def _variant(folder: Path, relative: str, candidate: Candidate, packing: Packing) -> Variant:
    path = folder / relative
    latency = candidate.latency
    verdict, reason = packing.settled.verdicts[candidate.name]
    accuracy = None
    if packing.selection.targets is not None and candidate.answers is not None:
        accuracy = float(packing.selection.right(candidate.answers).mean())
    return Variant(
        name=candidate.name,
        file=relative,
        precision=candidate.precision,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        opset=operator_set(onnx.load(path, load_external_data=False)),
        tuned_for=candidate.trial.tuned_for,
        accuracy=accuracy,
        p50_ms=latency.p50_ms if latency else None,
        speedup=latency.speedup if latency else None,
        verdict=verdict,
        reason=reason,
        batch_safe=candidate.batch_safe,
        engine=candidate.trial.engine,
        engine_options=dict(candidate.trial.engine_options),
        recipe=candidate.recipe,
        evidence=candidate.evidence,
    )


def _write_golden(folder: Path, packing: Packing) -> None:
    """Write golden inputs as files, the feed that they become, and each variant's answers to it."""
    source = packing.source
    inputs = folder / "golden/inputs"
    inputs.mkdir(parents=True)
    names, prepared = [], []
    for number, index in enumerate(_golden_indices(source)):
        data, suffix = source.encode(source.items[index])
        names.append(f"golden/inputs/{number}{suffix}")
        (folder / names[-1]).write_bytes(data)
        prepared.append(source.task.prepare(source.task.decode_golden(data)))
    tensors = source.task.collate(prepared)
    outputs: dict[str, Mapping[str, npt.NDArray[Any]]] = {}
    for candidate in packing.settled.kept:
        engine = candidate.engine(source.signature, num_threads=1)
        runner: Engine = engine if source.batches else OneByOne(engine)
        outputs[candidate.name] = runner.run(tensors)
        engine.close()
    golden = Golden(
        inputs=tuple(names),
        tensors=tensors,
        outputs=outputs,
        tolerance=_tolerances(outputs, packing.settled.kept, packing.source),
    )
    write_golden(folder, golden)


def _tolerances(
    outputs: Mapping[str, Mapping[str, npt.NDArray[Any]]], kept: list[Candidate], source: Source
) -> dict[str, float]:
    """Return how far each variant's answers may lie apart elsewhere.

    Probabilities have their own scale; other values are allowed a share of their largest.
    """
    scale = 1.0
    if source.task_name == "tensor":
        values = [array for row in outputs.values() for array in row.values() if array.size]
        scale = max(1.0, *(float(np.abs(array).max()) for array in values))
    return {row.name: GOLDEN_TOLERANCE[row.precision] * scale for row in kept}


def _golden_indices(source: Source, count: int = 4) -> list[int]:
    """Return the first test item of each of the first few classes."""
    test, targets = source.split.test, source.targets
    if targets is None or targets.ndim == 2 or not source.labels:
        return [int(index) for index in test[:count]]
    of_test = targets[test]
    return [
        int(test[np.flatnonzero(of_test == index)[0]])
        for index in range(len(source.labels))
        if np.any(of_test == index)
    ][:count]


def _reference(packing: Packing) -> dict[str, Any]:
    """Describe validation inputs and each variant's confidences, for a drift monitor."""
    inputs = packing.selection.inputs
    edges = np.linspace(0, 1, _BINS + 1)
    variants = {}
    for candidate in packing.settled.kept:
        answers = candidate.answers
        if answers is None or answers.probabilities is None:
            continue
        ordered = np.sort(answers.probabilities, axis=1)
        variants[candidate.name] = {
            "confidence": _histogram(ordered[:, -1], edges),
            "margin": _histogram(ordered[:, -1] - ordered[:, -2], edges),
            "predicted": np.bincount(
                answers.probabilities.argmax(axis=1), minlength=ordered.shape[1]
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
        "broken": {row.name: row.broken for row in packing.made if row.broken},
        "seed": packing.seed,
        "versions": {
            **origin["versions"],
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "host": detect_host().to_json(),
    }
