"""A seeded model of the task ``tensor`` that takes as long as it is told to, and little input."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgeml
from tests.tensors import make_tensor_bundle

NUM_SAMPLES = 10
_SHAPE = (16, 16, 16)
_CHANNELS = 128


def make_bundle(place: Path, *, layers: int) -> edgeml.Bundle:
    """Write a bundle of so many convolutions, about 0.75 ms each on one thread.

    Its time grows with the batch, so that joining requests gains nothing: what a server answers at
    most is the same however it batches. 16 kB of input, so that a client costs little beside it.
    """
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(size=_SHAPE).astype(np.float32)} for _ in range(NUM_SAMPLES)]
    return make_tensor_bundle(place, _graph(layers, rng), samples)


def item_seconds(bundle: edgeml.Bundle) -> float:
    """Return the median time of one item in this process, on one thread."""
    feed = {"x": bundle.golden().tensors["x"][:1]}
    taken = []
    with edgeml.load(bundle, num_threads=1) as predictor:
        for _ in range(30):
            begun = time.perf_counter()
            predictor.run(feed)
            taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def _graph(layers: int, rng: np.random.Generator) -> bytes:
    nodes, weights, last, channels = [], [], "x", _SHAPE[0]
    for number in range(layers):
        scale = (2 / (9 * channels)) ** 0.5
        values = rng.normal(0, scale, (_CHANNELS, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weights{number}"))
        nodes += [
            helper.make_node("Conv", [last, f"weights{number}"], [f"c{number}"], pads=[1] * 4),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        last, channels = f"r{number}", _CHANNELS
    weights.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"))
    nodes.append(helper.make_node("ReduceMean", [last, "axes"], ["y"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *_SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", _CHANNELS])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
