"""A torch module of the user's own, as the source of an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeml.core.archives import read_archive
from edgeml.core.predictor import Engine
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import DataError, InputError
from edgeml.exporting.from_factory import open_factory
from edgeml.exporting.from_onnx import describe_graph
from edgeml.exporting.module_tracing import TorchReference, trace_module
from edgeml.workflows.exporting import ExportSettings
from edgeml.workflows.sources import Source
from edgeml.workflows.tensor_source import tensor_source_of


def open_factory_source(
    name: str, data: str | Path | None, settings: ExportSettings, progress: Progress
) -> Source:
    """Import a factory, trace its module, and put data to prove it on beside it.

    Args:
        name: ``package.module:factory``.
        data: An ``.npz`` whose arrays are named as the parameters of ``forward``; None makes inputs
            up, and needs a factory that gives examples.
        settings: Seed, and how outputs are read.
        progress: Told of each step.

    Raises:
        InputError: There is no such factory, or it gives no module.
        DataError: The data is unfit.
        ExportError: torch cannot trace the module.
    """
    arrays = None
    if data is not None:
        try:
            arrays = read_archive(Path(data))
        except InputError as exc:
            raise DataError(source=str(data), reason=str(exc)) from exc
    made = open_factory(name, arrays)
    progress(ProgressEvent(stage="trace", done=0, total=1, note="torch to ONNX"))
    core, notes = trace_module(made.module, made.examples)
    progress(ProgressEvent(stage="trace", done=1, total=1))
    described = describe_graph(core, name=name)
    opened = replace(described, notes=(*notes, *described.notes))

    def reference(num_threads: int) -> Engine:
        return TorchReference(made.module, opened.signature, num_threads=num_threads)

    return tensor_source_of(name, opened, data, settings, reference)
