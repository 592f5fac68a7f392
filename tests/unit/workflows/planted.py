"""Graphs with known faults: a dear classifier, and cheap files that answer as it does, or wrongly.

The classifier's logits are four of its products; a long way round adds a millionth to them. A file
that leaves the way round out is many times as fast and as good, on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
from onnx import numpy_helper

from edgeml.core.timing import TimingPlan
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.space import SpaceOptions
from edgeml.exporting.trials import Trial
from edgeml.workflows.exporting import ExportSettings

FEATURES, CLASSES, WIDTH = 16, 4, 1024
# Few rounds, and never called unstable: a busy neighbour must not decide a test.
SETTINGS = ExportSettings(
    num_threads=1, timing=TimingPlan(rounds=21, calls=2, warmup=1, max_spread=1e9)
)
_HEAD = '<ir_version: 10, opset_import: ["": 18]>\nm (float[batch, 16] x) => (float[batch, 4] y)'
_DEAR = f"""{_HEAD} {{
    a = MatMul(x, first)  b = Relu(a)  c = MatMul(b, second)  d = Relu(c)
    e = MatMul(d, third)  short = MatMul(x, directions)  y = Add(short, e)
}}"""
GOOD = f"{_HEAD} {{ y = MatMul(x, directions) }}"
FAULTS = {
    "collapsed": f"""{_HEAD} <int64[4] order = {{1, 2, 3, 0}}> {{
        z = MatMul(x, directions)  y = Gather<axis = 1>(z, order) }}""",
    # Alone it is as good as any; among neighbours the answers move.
    "coupled": f"""{_HEAD} <int64[1] axes = {{0}}, float three = {{3.0}}> {{
        z = MatMul(x, directions)  mean = ReduceMean(z, axes)  apart = Sub(z, mean)
        more = Mul(apart, three)  y = Add(z, more) }}""",
    # Integers hold what lies within a half of zero; the best class is nearly always the same.
    "saturated": f"""{_HEAD} <float scale = {{0.004}}, int8 zero = {{0}}, float back = {{1.0}}> {{
        q = QuantizeLinear(x, scale, zero)  w = DequantizeLinear(q, scale, zero)
        y = MatMul(w, directions) }}""",
    "undefined": f"{_HEAD} {{ z = MatMul(x, directions)  y = Log(z) }}",
    "renamed": GOOD.replace(" y)", " scores)").replace("y = ", "scores = "),
    "hanging": f"""{_HEAD} <int64 trips = {{4611686018427387904}}> {{
        z = MatMul(x, directions)
        y = Loop(trips, , z) <body = step (int64 count, bool on, float[batch, 4] old)
            => (bool on_still, float[batch, 4] new) {{
                on_still = Identity(on)  half = Tanh(old)  new = Add(half, old) }}>
    }}""",
}


def graph(text: str, *, seed: int = 0) -> onnx.ModelProto:
    """A graph with the weights that it names."""
    rng = np.random.default_rng(seed)
    shapes = {"first": (FEATURES, WIDTH), "second": (WIDTH, WIDTH), "third": (WIDTH, CLASSES)}
    model = onnx.parser.parse_model(text)
    weights = {name: rng.normal(0, 0.03, shape) for name, shape in shapes.items()}
    weights["third"] *= 1e-5
    weights["directions"] = np.tile(np.eye(CLASSES) * 4, (FEATURES // CLASSES, 1))
    for name, values in weights.items():
        if any(name in node.input for node in model.graph.node):
            tensor = numpy_helper.from_array(values.astype(np.float32), name)
            model.graph.initializer.append(tensor)
    onnx.checker.check_model(model)
    return model


def dear(folder: Path) -> Path:
    """The classifier's file."""
    return store(folder / "dear.onnx", graph(_DEAR))


def fault(folder: Path, name: str) -> Path:
    """A file with a fault."""
    return store(folder / f"{name}.onnx", graph(FAULTS[name]))


def good(folder: Path) -> Path:
    """A file that is faster and no worse."""
    return store(folder / "good.onnx", graph(GOOD))


def store(place: Path, model: onnx.ModelProto) -> Path:
    """Write a model."""
    onnx.save(model, place)
    return place


def samples(count: int, *, seed: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Inputs float32 ``(count, 16)`` and the classes, which the classifier knows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    inputs = rng.normal(0, 0.4, (count, FEATURES))
    inputs[:, :] += np.tile(np.eye(CLASSES)[labels], (1, FEATURES // CLASSES))
    return inputs.astype(np.float32), labels.astype(np.int64)


def data(folder: Path, *, count: int = 120, seed: int = 0, labelled: bool = True) -> Path:
    """An ``.npz`` of them."""
    inputs, labels = samples(count, seed=seed)
    arrays: dict[str, Any] = {"x": inputs, **({"labels": labels} if labelled else {})}
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def files_alone(_: onnx.ModelProto, __: Assembly, options: SpaceOptions) -> list[Trial]:
    """A space of fp32 and the files of others, called as their files are."""
    rows = [
        Trial(name=Path(file).stem, kind="file", precision="int8", file=file)
        for file in options.files
    ]
    return [Trial(name="fp32", kind="float", precision="fp32"), *rows]


def by_origin(rows: Sequence[dict[str, Any]], evidence: dict[str, Any]) -> dict[str, Any]:
    """Rows by the name that a trial had in the space, before the best became ``int8``."""
    return {evidence.get(row["name"], {}).get("candidate", row["name"]): row for row in rows}
