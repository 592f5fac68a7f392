"""Bundles of the task ``tensor``: tiny graphs with several inputs, free axes, or a batch of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx.parser

from edgeml.core.batching import takes_one
from edgeml.core.bundle import Bundle, Golden, staged_folder, write_bundle, write_golden
from edgeml.core.files import sha256_of
from edgeml.core.manifest import Manifest, Variant
from edgeml.core.predictor import Engine
from edgeml.runtime.engine import OnnxEngine
from edgeml.runtime.one_by_one import OneByOne
from edgeml.tasks.tensor import TensorTask

# Two inputs with a shared free axis, two outputs, one of them a number a sample.
TWO = """
<ir_version: 10, opset_import: ["": 18]>
two (float[batch, steps] values, int64[batch, steps] weights)
    => (float[batch, steps] products, float[batch] totals)
<int64[1] axes = {1}>
{
    factors = Cast<to = 1>(weights)
    products = Mul(values, factors)
    totals = ReduceSum<keepdims = 0>(products, axes)
}
"""
# One input, and logarithms, so that a negative number becomes NaN.
LOGS = """
<ir_version: 10, opset_import: ["": 18]>
logs (float[batch, 3] x) => (float[batch, 3] y) { y = Log(x) }
"""
ONE = LOGS.replace("batch", "1")
# The batch's mean: a sample's answer depends on its neighbours.
COUPLED = """
<ir_version: 10, opset_import: ["": 18]>
coupled (float[batch, 3] x) => (float[batch, 3] y)
<int64[1] axes = {0}>
{ mean = ReduceMean(x, axes) y = Sub(x, mean) }
"""


def make_tensor_bundle(
    place: Path,
    graph: str | bytes,
    samples: list[Mapping[str, Any]],
    *,
    variants: tuple[str, ...] = ("fp32",),
    batch_safe: bool = True,
) -> Bundle:
    """Write a bundle of one graph under several names; the last variant is chosen."""
    parsed = graph if isinstance(graph, bytes) else onnx.parser.parse_model(graph)
    data = parsed if isinstance(parsed, bytes) else parsed.SerializeToString()
    engine: Engine = OnnxEngine(data)
    signature = engine.signature
    engine = OneByOne(engine) if takes_one(signature) else engine
    task = TensorTask(signature=signature)
    tensors = task.collate([task.prepare(sample) for sample in samples])
    answers = engine.run(tensors)
    with staged_folder(place) as folder:
        names, rows = [], []
        (folder / "golden/inputs").mkdir(parents=True)
        for number, sample in enumerate(samples):
            names.append(f"golden/inputs/{number}.npz")
            (folder / names[-1]).write_bytes(task.encode_golden(sample))
        for name in variants:
            file = folder / f"variants/{name}/model.onnx"
            file.parent.mkdir(parents=True)
            file.write_bytes(data)
            rows.append(
                Variant(
                    name=name,
                    file=f"variants/{name}/model.onnx",
                    precision=name,
                    size_bytes=len(data),
                    sha256=sha256_of(file),
                    opset=18,
                    verdict="chosen" if name == variants[-1] else "reference",
                    batch_safe=batch_safe,
                )
            )
        golden = Golden(
            inputs=tuple(names),
            tensors=tensors,
            outputs=dict.fromkeys(variants, answers),
            tolerance=dict.fromkeys(variants, 1e-5),
        )
        write_golden(folder, golden)
        manifest = Manifest(
            name="tensors",
            version="1",
            task="tensor",
            signature=signature,
            preprocessing={},
            labels=(),
            variants=tuple(rows),
            chosen=variants[-1],
            chosen_by_device={"cpu": variants[-1]},
            files={row.file: row.sha256 for row in rows},
            provenance={},
        )
        write_bundle(folder, manifest, place=place)
    return Bundle.read(place)
