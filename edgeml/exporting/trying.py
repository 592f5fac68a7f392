"""Running a graph from elsewhere on inputs that are made up, seeded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgeml.core.dtypes import BY_RUNTIME
from edgeml.core.signature import TensorSpec
from edgeml.errors import InputError
from edgeml.exporting.declared import BATCH, runtime_reason, unsupported

# Sizes that free axes are tried at, likelier ones first: of pictures, and of anything else.
_SPATIAL_SIZES = (224, 64, 32, 256, 384, 512, 16, 8)
_OTHER_SIZES = (16, 32, 8, 64, 224, 1024, 4096)
Shapes = Mapping[str, tuple[int, ...]]


def synthetic_feed(
    inputs: Sequence[TensorSpec],
    *,
    vocabulary: Mapping[str, int],
    batch: int,
    sizes: Mapping[str, int],
    seed: int = 0,
) -> dict[str, npt.NDArray[Any]]:
    """Make up a feed.

    Args:
        inputs: What the graph takes.
        vocabulary: Integer input to how many values it may have.
        batch: Samples, where the batch axis is free.
        sizes: Sizes of the other free axes.
        seed: Seed of the values.

    Returns:
        Input name to array: floats from a normal distribution, integers below their number of
        values, and masks of ones: a mask of zeros makes NaN of a softmax.
    """
    rng = np.random.default_rng(seed)
    known = {BATCH: batch, **sizes}
    feed: dict[str, npt.NDArray[Any]] = {}
    for spec in inputs:
        shape = tuple(axis if isinstance(axis, int) else known[axis] for axis in spec.shape)
        dtype = np.dtype(spec.dtype)
        if dtype.kind in "iub" and "mask" in spec.name.lower():
            feed[spec.name] = np.ones(shape, dtype=dtype)
        elif dtype.kind in "iub":
            feed[spec.name] = rng.integers(0, vocabulary.get(spec.name, 2), shape).astype(dtype)
        else:
            feed[spec.name] = rng.standard_normal(shape).astype(dtype)
    return feed


class GraphTrial:
    """A graph in ONNX Runtime on one thread, fed with made-up inputs.

    Args:
        model: The graph.
        inputs: What it declares to take.
        vocabulary: Integer input to how many values it may have.
        channels: Free axes whose size is known from the weights.
        name: The file, for messages.

    Raises:
        InputError: ONNX Runtime cannot open it, or an output is not a numeric tensor.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Sequence[TensorSpec],
        *,
        vocabulary: Mapping[str, int],
        channels: Mapping[str, int],
        name: str,
    ) -> None:
        self.inputs = tuple(inputs)
        self._vocabulary = vocabulary
        self._channels = channels
        self._name = name
        self._session = _open(model, name)
        self.dtypes: dict[str, str] = {}
        for row in self._session.get_outputs():
            if row.type not in BY_RUNTIME:
                raise unsupported("output", row.name, row.type, name)
            self.dtypes[row.name] = BY_RUNTIME[row.type].numpy

    def of(self, model: onnx.ModelProto) -> GraphTrial:
        """Return the same trial of another graph of this graph's inputs."""
        return GraphTrial(
            model,
            self.inputs,
            vocabulary=self._vocabulary,
            channels=self._channels,
            name=self._name,
        )

    def run(
        self, *, batch: int, sizes: Mapping[str, int], seed: int = 0
    ) -> dict[str, npt.NDArray[Any]] | str:
        """Run once; return output name to array, or ONNX Runtime's reason for not doing so."""
        feed = synthetic_feed(
            self.inputs, vocabulary=self._vocabulary, batch=batch, sizes=sizes, seed=seed
        )
        try:
            values = self._session.run(list(self.dtypes), feed)
        except Exception as exc:  # its exceptions share no base
            return runtime_reason(exc)
        return dict(zip(self.dtypes, values, strict=True))

    def shapes(self, *, batch: int, sizes: Mapping[str, int]) -> Shapes | str:
        """Return the outputs' shapes, or the reason why it did not run."""
        answers = self.run(batch=batch, sizes=sizes)
        if isinstance(answers, str):
            return answers
        return {name: tuple(value.shape) for name, value in answers.items()}

    def first_sizes(self) -> tuple[dict[str, int], Shapes]:
        """Return sizes of the free axes at which the graph runs, and what came out.

        Raises:
            InputError: There are none.
        """
        reason = ""
        for sizes in self._schedule():
            shapes = self.shapes(batch=1, sizes=sizes)
            if not isinstance(shapes, str):
                return sizes, shapes
            reason = reason or shapes
        raise InputError(
            f"ONNX Runtime cannot run this graph on made-up inputs ({reason}); one that runs at "
            "batch 1 was expected; export it again with fixed sizes of all axes but the batch",
            item=self._name,
        )

    def _schedule(self) -> Iterator[dict[str, int]]:
        free = [axis for axis in free_axes(self.inputs) if axis not in self._channels]
        spatial = {
            axis
            for spec in self.inputs
            if len(spec.shape) == 4
            for position, axis in spec.symbolic
            if position > 0
        }
        pictures = _SPATIAL_SIZES if spatial & set(free) else (0,)
        others = _OTHER_SIZES if set(free) - spatial else (0,)
        for side, other in itertools.product(pictures, others):
            yield {
                **self._channels,
                **{axis: side if axis in spatial else other for axis in free},
            }


def free_axes(inputs: Sequence[TensorSpec]) -> list[str]:
    """Return the names of the free axes but the batch, each once."""
    names = [axis for spec in inputs for _, axis in spec.symbolic]
    return [axis for axis in dict.fromkeys(names) if axis != BATCH]


def _open(model: onnx.ModelProto, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:
        raise InputError(
            f"ONNX Runtime cannot open it ({runtime_reason(exc)}); a model of operators that it "
            "knows was expected; export it again",
            item=name,
        ) from exc
