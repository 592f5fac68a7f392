"""Pack candidates and their verdicts into a bundle, whole or not at all."""

from __future__ import annotations

import io
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
from edgeml.data.dataset import ImageDataset
from edgeml.exporting.checks import GOLDEN_TOLERANCE, run_batches
from edgeml.runtime.host import detect_host
from edgeml.tasks.image import INPUT, OUTPUT, ImageTask
from edgeml.training.checkpoint import Checkpoint
from edgeml.workflows.candidates import Candidate, Samples

_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Everything that goes into one bundle.

    Attributes:
        name: The bundle's name.
        version: Its version.
        task: The contract.
        checkpoint: What was exported.
        dataset: Where the golden examples come from.
        golden: Indices of the golden examples.
        candidates: The measured variants, fp32 first.
        broken: Name to reason of candidates that cannot be used and are not in the bundle.
        verdicts: Variant name to verdict and reason; one is ``chosen``.
        selection: What the variants were compared on.
        seed: Seed of the export.
    """

    name: str
    version: str
    task: ImageTask
    checkpoint: Checkpoint
    dataset: ImageDataset
    golden: list[int]
    candidates: tuple[Candidate, ...]
    verdicts: Mapping[str, tuple[str, str]]
    broken: Mapping[str, str]
    selection: Samples
    seed: int


def pack(place: Path, packing: Packing) -> None:
    """Write the bundle at ``place``; a kill leaves what stood there before."""
    with staged_folder(place) as folder:
        variants = tuple(_write_variant(folder, row, packing) for row in packing.candidates)
        _write_golden(folder, packing)
        write_json(folder / REFERENCE, _reference(packing))
        chosen = next(row for row in variants if row.verdict == "chosen")
        half = next((row for row in packing.candidates if row.precision == "fp16"), None)
        manifest = Manifest(
            name=packing.name,
            version=packing.version,
            task=packing.checkpoint.task,
            signature=packing.task.signature,
            preprocessing=packing.task.preprocessing.to_json(),
            labels=packing.checkpoint.labels,
            variants=variants,
            chosen=chosen.name,
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
    right = candidate.probabilities.argmax(axis=1) == packing.selection.targets
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
        batch_safe=candidate.evidence["invariance"]["ok"],
        recipe=candidate.recipe,
        evidence=candidate.evidence,
    )


def _write_golden(folder: Path, packing: Packing) -> None:
    inputs = folder / "golden/inputs"
    inputs.mkdir(parents=True)
    names = []
    for number, index in enumerate(packing.golden):
        data, suffix = _encoded(packing.dataset.items[index])
        names.append(f"golden/inputs/{number}{suffix}")
        (folder / names[-1]).write_bytes(data)
    tensors = np.stack([packing.task.prepare(folder / name) for name in names])
    outputs: dict[str, Mapping[str, npt.NDArray[Any]]] = {}
    for candidate in packing.candidates:
        engine = candidate.engine(packing.task, num_threads=1)
        outputs[candidate.name] = {OUTPUT: run_batches(engine, tensors)}
        engine.close()
    golden = Golden(
        inputs=tuple(names),
        tensors={INPUT: tensors},
        outputs=outputs,
        tolerance={row.name: GOLDEN_TOLERANCE[row.precision] for row in packing.candidates},
    )
    write_golden(folder, golden)


def _encoded(item: Any) -> tuple[bytes, str]:
    """Return an item as the bytes of a picture file, and the file's suffix."""
    if isinstance(item, Path):
        return item.read_bytes(), item.suffix.lower()
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(item).save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def _reference(packing: Packing) -> dict[str, Any]:
    """Describe validation inputs and each variant's confidences, for a drift monitor."""
    images = packing.selection.images
    edges = np.linspace(0, 1, _BINS + 1)
    # One picture at a time: numpy would make a float copy of all of them.
    brightness = np.array([image.mean() / 255 for image in images])
    contrast = np.array([image.std() / 128 for image in images])
    variants = {}
    for candidate in packing.candidates:
        assert candidate.probabilities is not None
        ordered = np.sort(candidate.probabilities, axis=1)
        variants[candidate.name] = {
            "confidence": _histogram(ordered[:, -1], edges),
            "margin": _histogram(ordered[:, -1] - ordered[:, -2], edges),
            "predicted": np.bincount(
                candidate.probabilities.argmax(axis=1), minlength=len(packing.checkpoint.labels)
            ).tolist(),
        }
    return {
        "num_samples": len(images),
        "edges": edges.tolist(),
        "inputs": {
            "brightness": _histogram(brightness, edges),
            "contrast": _histogram(contrast, edges),
        },
        "variants": variants,
    }


def _histogram(values: npt.NDArray[Any], edges: npt.NDArray[Any]) -> list[int]:
    counts: list[int] = np.histogram(np.clip(values, 0, 1), bins=edges)[0].tolist()
    return counts


def _provenance(packing: Packing) -> dict[str, Any]:
    checkpoint = packing.checkpoint
    return {
        "model": checkpoint.model,
        "data": {
            **{key: value for key, value in checkpoint.data.items() if key != "place"},
            "proven_on": packing.dataset.fingerprint,
        },
        "broken": dict(packing.broken),
        "training": {
            "accuracy": checkpoint.training["accuracy"],
            "settings": checkpoint.training["settings"],
        },
        "seed": packing.seed,
        "versions": {
            **checkpoint.provenance["versions"],
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "host": detect_host().to_json(),
    }
