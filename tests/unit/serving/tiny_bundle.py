"""Tiny bundles for a server: a classifier whose variants answer differently, and a lookup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from edgeml.core.bundle import Bundle, Golden, staged_folder, write_bundle, write_golden
from edgeml.core.files import sha256_of
from edgeml.core.manifest import Manifest, Variant
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask

LABELS = ("Bag", "Coat", 'Shirt "white"', "Größe")

GRAPH = """
<ir_version: 10, opset_import: ["": 18]>
tiny (uint8[batch, {size}, {size}, 3] image) => (float[batch, {classes}] probabilities)
<int64[2] axes = {{1, 2}}, float scale = {{0.0078125}}>
{{
    values = Cast<to = 1>(image)
    scaled = Mul(values, scale)
    pooled = ReduceMean<keepdims = 0>(scaled, axes)
    logits = MatMul(pooled, weights)
    probabilities = Softmax<axis = 1>(logits)
}}
"""


def tiny_model(weights: Any, *, size: int) -> bytes:
    """Return an ONNX file: mean of each channel, a matrix, softmax."""
    text = GRAPH.format(size=size, classes=weights.shape[1])
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run_file(path: Path, images: Any) -> Any:
    """Return what ONNX Runtime answers in-process."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def make_tiny_bundle(
    place: Path,
    *,
    size: int = 8,
    name: str = "tiny",
    seed: int = 0,
    chosen: str = "int8",
    batch_safe: bool = True,
    variants: tuple[str, ...] = ("fp32", "fp16", "int8"),
    gpu: str = "fp16",
) -> Bundle:
    """Write a bundle of the tiny model."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 3, (3, len(LABELS))).astype(np.float32)
    rounded = {
        "fp32": weights,
        "fp16": weights.astype(np.float16).astype(np.float32),
        "int8": np.round(weights * 4) / 4,
    }
    images = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    task = ImageTask(
        preprocessing=ImagePreprocessing(height=size, width=size),
        labels=ClassLabels(names=LABELS),
    )
    with staged_folder(place) as folder:
        rows, outputs = [], {}
        for variant in variants:
            file = f"variants/{variant}/model.onnx"
            path = folder / file
            path.parent.mkdir(parents=True)
            path.write_bytes(tiny_model(rounded[variant].astype(np.float32), size=size))
            rows.append(
                Variant(
                    name=variant,
                    file=file,
                    precision=variant,
                    size_bytes=path.stat().st_size,
                    sha256=sha256_of(path),
                    opset=18,
                    verdict="chosen" if variant == chosen else "passed",
                    batch_safe=batch_safe or variant != chosen,
                )
            )
            outputs[variant] = {"probabilities": run_file(path, images)}
        write_golden(
            folder,
            Golden(
                inputs=(),
                tensors={"image": images},
                outputs=outputs,
                tolerance=dict.fromkeys(variants, 1e-5),
            ),
        )
        manifest = Manifest(
            name=name,
            version="1",
            task="image-classification",
            signature=task.signature,
            preprocessing=task.preprocessing.to_json(),
            labels=LABELS,
            variants=tuple(rows),
            chosen=chosen,
            chosen_by_device={"cpu": chosen} | ({"gpu": gpu} if gpu in variants else {}),
            files={row.file: row.sha256 for row in rows},
            provenance={"model": "tiny"},
        )
        write_bundle(folder, manifest, place=place)
    return Bundle.read(place)


LOOKUP = """
<ir_version: 10, opset_import: ["": 18]>
lookup (int64[batch, 1] ids, float[batch, 3] bias) => (float[batch, 3] sums, float[batch] totals)
<int64[1] axes = {1}, float[4, 3] table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}>
{
    rows = Gather<axis = 0>(table, ids)
    flat = Squeeze(rows, axes)
    sums = Add(flat, bias)
    totals = ReduceSum<keepdims = 0>(sums, axes)
}
"""


def make_lookup_bundle(place: Path) -> Bundle:
    """Write a bundle whose model fails on an id above 3, and gives a scalar a sample too."""
    tensors = {"ids": np.array([[1], [3]]), "bias": np.full((2, 3), 0.5, dtype=np.float32)}
    with staged_folder(place) as folder:
        path = folder / "variants/fp32/model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(onnx.parser.parse_model(LOOKUP).SerializeToString())
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        sums, totals = session.run(["sums", "totals"], tensors)
        outputs = {"fp32": {"sums": sums, "totals": totals}}
        write_golden(
            folder,
            Golden(inputs=(), tensors=tensors, outputs=outputs, tolerance={"fp32": 1e-6}),
        )
        row = Variant(
            name="fp32",
            file="variants/fp32/model.onnx",
            precision="fp32",
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
            opset=18,
        )
        manifest = Manifest(
            name="lookup",
            version="1",
            task="tensor",
            signature=LOOKUP_SIGNATURE,
            preprocessing={},
            labels=(),
            variants=(row,),
            chosen="fp32",
            chosen_by_device={},
            files={row.file: row.sha256},
            provenance={},
        )
        write_bundle(folder, manifest, place=place)
    return Bundle.read(place)


LOOKUP_SIGNATURE = ModelSignature(
    inputs=(
        TensorSpec(name="ids", dtype="int64", shape=("batch", 1)),
        TensorSpec(name="bias", dtype="float32", shape=("batch", 3)),
    ),
    outputs=(
        TensorSpec(name="sums", dtype="float32", shape=("batch", 3)),
        TensorSpec(name="totals", dtype="float32", shape=("batch",)),
    ),
)
