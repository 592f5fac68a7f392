"""A graph from elsewhere, and named arrays to prove it on, as the source of an export."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.batching import takes_one
from edgeml.core.predictor import Engine
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.data.arrays import ArrayDataset, make_array_split, open_arrays, synthetic_arrays
from edgeml.errors import DataError, InputError
from edgeml.exporting.answers import Answers, collect_answers
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.from_onnx import OnnxModel, load_onnx
from edgeml.exporting.plain_engine import PlainEngine
from edgeml.exporting.scores import find_scores
from edgeml.tasks.samples import Samples, TensorSamples
from edgeml.tasks.tensor import TensorTask
from edgeml.workflows.exporting import ExportSettings
from edgeml.workflows.sources import Indices, Source

_SYNTHETIC_SAMPLES = 120
_READ_SAMPLES = 8
# Between integer and float parts of a graph a sum's last bit may move a quantization step.
_TOLERANCE = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.02, "int8": 0.01, "int4": 0.01}


def open_onnx_source(
    path: Path, data: str | Path | None, settings: ExportSettings, progress: Progress
) -> Source:
    """Put an ONNX file and the arrays to prove it on together.

    Args:
        path: The file.
        data: An ``.npz``; None makes inputs up.
        settings: Seed, and how outputs are read.
        progress: Told of each step.

    Raises:
        InputError: The file is no model that edgeml runs.
        DataError: The data is unfit.
    """
    progress(ProgressEvent(stage="read", done=0, total=1, note=path.name))
    opened = load_onnx(path)
    progress(ProgressEvent(stage="read", done=1, total=1))

    def reference(num_threads: int) -> Engine:
        return PlainEngine(opened.model, opened.signature, num_threads=num_threads)

    return tensor_source_of(path.name, opened, data, settings, reference)


def tensor_source_of(
    name: str,
    opened: OnnxModel,
    data: str | Path | None,
    settings: ExportSettings,
    reference: Callable[[int], Engine],
) -> Source:
    """Put a described graph and the arrays to prove it on together.

    Args:
        name: What the user called the model.
        opened: The graph.
        data: An ``.npz``; None makes inputs up.
        settings: Seed, and how outputs are read.
        reference: Opens the model's own answers, with so many threads.

    Raises:
        InputError: No output can be read as was wished.
        DataError: The data is unfit.
    """
    dataset = _data(opened, data, settings.seed)
    signature = opened.signature
    batches = not takes_one(signature)
    task = TensorTask(signature=signature)

    def prepare(indices: Indices) -> TensorSamples:
        return TensorSamples(dataset.inputs, max_batch=None if batches else 1, rows=indices)

    reading = find_scores(
        _some_outputs(reference(1), prepare(np.arange(_READ_SAMPLES))),
        dataset.targets,
        wanted=settings.outputs,
    )

    def answer(samples: Samples, num_threads: int) -> Answers:
        return collect_answers(
            reference(num_threads), samples, reading, batch=None if batches else 1
        )

    synthetic = data is None
    notes = list(opened.notes)
    if opened.quantized:
        notes.append(f"the source is quantized already ({opened.quantized}): it is kept as it is")
    if synthetic:
        notes.append("no data was given: inputs are made up, and nothing is proven")
    return Source(
        task_name="tensor",
        task=task,
        assembly=Assembly(frame="none", signature=signature),
        reading=reading,
        preprocessing={},
        labels=(),
        items=_Items(dataset),
        targets=dataset.targets,
        split=make_array_split(dataset, seed=settings.seed),
        data_name=dataset.name,
        fingerprint=dataset.fingerprint,
        foreign=True,
        provenance={
            "model": name,
            "opset": opened.opset,
            "quantized": opened.quantized,
            "notes": notes,
            "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "reading": reading.to_json(),
            "versions": {"numpy": np.__version__, "python": platform.python_version()},
        },
        make_core=lambda: _named(opened.model),
        prepare=prepare,
        reference=answer,
        encode=lambda item: (task.encode_golden(item), ".npz"),
        quantized=opened.quantized,
        synthetic=synthetic,
        notes=tuple(notes),
        batches=batches,
        parity_samples=32,
        invariance_samples=12,
        invariance_tolerance=_TOLERANCE,
    )


def _data(opened: OnnxModel, data: str | Path | None, seed: int) -> ArrayDataset:
    if data is not None:
        if Path(data).suffix not in (".npz", ".npy"):
            raise DataError(
                source=str(data),
                reason="a graph is proven on an .npz: one array an input by name, first axis "
                "samples, perhaps 'labels'; convert the data with numpy.savez",
            )
        return open_arrays(data, opened.signature)
    return synthetic_arrays(
        opened.signature,
        num_samples=_SYNTHETIC_SAMPLES,
        seed=seed,
        vocabulary=opened.vocabulary,
        sizes=opened.sizes,
    )


def _some_outputs(engine: Engine, samples: TensorSamples) -> dict[str, npt.NDArray[Any]]:
    rows = [engine.run(samples.feed([index])) for index in range(len(samples))]
    engine.close()
    try:
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    except ValueError as exc:
        raise InputError(
            "the sizes of an output depend on the values of the input; outputs whose sizes follow "
            "from the input's sizes were expected; cut the graph before that step"
        ) from exc


class _Items(Sequence[Any]):
    """A data set's samples, one dict of arrays each."""

    def __init__(self, dataset: ArrayDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> dict[str, npt.NDArray[Any]]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, npt.NDArray[Any]]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return {name: array[index] for name, array in self._dataset.inputs.items()}


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes have a name each: recipes and profiles know them by it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    taken = {node.name for node in made.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(made.graph.node):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)
    return made
