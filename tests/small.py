"""Image classifiers of a few hundred bytes, written as ONNX text, and bundles of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from edgeml.core.bundle import Bundle, Golden, staged_folder, write_bundle, write_golden
from edgeml.core.files import sha256_of
from edgeml.core.manifest import Manifest, Variant
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import INPUT, OUTPUT, ImagePreprocessing, ImageTask
from tests.pictures import oriented, rgb_file

SIDE = 8
LABELS = ("cat", "dog", "owl", "yak")
TASK = ImageTask(
    preprocessing=ImagePreprocessing(height=SIDE, width=SIDE), labels=ClassLabels(names=LABELS)
)
CLASSIFIER = """
<ir_version: 10, opset_import: ["": 18]>
small (uint8[batch, 8, 8, 3] image) => (float[batch, 4] probabilities)
<int64[2] axes = {1, 2}, float scale = {0.0078125}>
{
    values = Cast<to = 1>(image)
    scaled = Mul(values, scale)
    pooled = ReduceMean<keepdims = 0>(scaled, axes)
    logits = MatMul(pooled, weights)
    probabilities = Softmax<axis = 1>(logits)
}
"""


def parse(text: str) -> onnx.ModelProto:
    """Parse and check a model."""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return model


def small_classifier(*, shift: float = 0.0, seed: int = 0) -> onnx.ModelProto:
    """Mean of each channel, a matrix, softmax; ``shift`` moves the matrix a little."""
    model = onnx.parser.parse_model(CLASSIFIER)
    weights = np.random.default_rng(seed).normal(0, 3, (3, len(LABELS))) + shift * np.eye(3, 4)
    model.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), "weights"))
    onnx.checker.check_model(model)
    return model


def make_small_bundle(place: Path, *, tuned_for: str | None = None) -> Bundle:
    """Write a bundle: fp32, and an int8 whose answers are a little different and that is chosen."""
    models = {"fp32": small_classifier(), "int8": small_classifier(shift=0.01)}
    rows, outputs = [], {}
    with staged_folder(place) as folder:
        (folder / "golden/inputs").mkdir(parents=True)
        names = ("golden/inputs/0.png", "golden/inputs/1.jpg")
        (folder / names[0]).write_bytes(rgb_file())
        (folder / names[1]).write_bytes(oriented(6, "JPEG"))
        images = np.stack([TASK.prepare(folder / name) for name in names])
        for name, model in models.items():
            path = folder / f"variants/{name}/model.onnx"
            path.parent.mkdir(parents=True)
            onnx.save(model, path)
            engine = OnnxEngine(path)
            outputs[name] = engine.run({INPUT: images})
            engine.close()
            rows.append(_row(name, path, tuned_for if name == "int8" else None))
        golden = Golden(
            inputs=names,
            tensors={INPUT: images},
            outputs=outputs,
            tolerance={"fp32": 1e-5, "int8": 1e-5},
        )
        write_golden(folder, golden)
        write_bundle(folder, _manifest(tuple(rows)), place=place)
    return Bundle.read(place)


def _row(name: str, path: Path, tuned_for: str | None) -> Variant:
    return Variant(
        name=name,
        file=f"variants/{name}/model.onnx",
        precision=name,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        opset=18,
        tuned_for=tuned_for,
        accuracy=0.9,
        p50_ms=0.5,
        speedup=1.0,
        verdict="chosen" if name == "int8" else "reference",
        reason="1.75x [1.70, 1.80]",
    )


def _manifest(rows: tuple[Variant, ...]) -> Manifest:
    return Manifest(
        name="small",
        version="3",
        task="image-classification",
        signature=TASK.signature,
        preprocessing=TASK.preprocessing.to_json(),
        labels=LABELS,
        variants=rows,
        chosen="int8",
        chosen_by_device={"cpu": "int8", "gpu": "fp32"},
        files={row.file: row.sha256 for row in rows},
        provenance={"seed": 0},
    )


__all__ = [
    "INPUT",
    "LABELS",
    "OUTPUT",
    "SIDE",
    "TASK",
    "make_small_bundle",
    "parse",
    "small_classifier",
]
