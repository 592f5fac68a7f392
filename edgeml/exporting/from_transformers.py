"""From a Hugging Face classifier to an ONNX graph, through optimum's exporter. Needs [hf].

optimum knows each architecture's inputs and axes; what comes out here is plain ONNX of the asked
opset, with free batch and sequence axes, before any pass of ours.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from edgeml._optional import require
from edgeml.errors import ExportError
from edgeml.exporting.from_torch import OPSET
from edgeml.exporting.graph import operator_set

require("transformers", extra="hf")
require("optimum.exporters.onnx", extra="hf")

CORE_OUTPUT = "logits"
# What one ONNX file can hold, less what is not weights.
_MAX_WEIGHT_BYTES = 2_000_000_000


def trace_text_model(module: Any) -> onnx.ModelProto:
    """Export a text classifier of the transformers library.

    Args:
        module: A ``PreTrainedModel`` for sequence classification, in evaluation mode.

    Returns:
        A model of opset 18: int64 inputs ``(batch, sequence)``, output ``logits`` ``(batch,
        classes)``.

    Raises:
        ExportError: optimum does not know the architecture, the weights are too many for one file,
            or another operator set came out.
    """
    size = sum(row.numel() * row.element_size() for row in module.parameters())
    if size > _MAX_WEIGHT_BYTES:
        raise ExportError(
            f"the model's weights are {size / 1e9:.1f} GB; at most {_MAX_WEIGHT_BYTES / 1e9:.1f} "
            "were expected, what one ONNX file holds; choose a smaller model"
        )
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory(prefix="edgeml-export-") as folder:
        try:
            with _quiet():
                onnx_export_from_model(
                    module,
                    folder,
                    task="text-classification",
                    opset=OPSET,
                    do_validation=False,
                    device="cpu",
                )
            model = onnx.load(Path(folder) / "model.onnx")
        except Exception as exc:  # exporters raise anything
            reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
            raise ExportError(
                f"optimum cannot export this {type(module).__name__} ({reason}); a text encoder "
                "that optimum supports was expected; choose another architecture"
            ) from exc
    opset = operator_set(model)
    if opset != OPSET:
        raise ExportError(f"opset {opset} came out of the exporter; {OPSET} was asked for")
    outputs = [row.name for row in model.graph.output]
    if outputs != [CORE_OUTPUT]:
        raise ExportError(
            f"the exported graph gives {', '.join(outputs)}; {CORE_OUTPUT} alone was expected; "
            "use a model for sequence classification"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter off stdout, which may carry JSON, and its notes off stderr."""
    names = ("optimum", "transformers", "optimum.exporters.onnx", "torch.onnx")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            # Notes of the tracer and of optimum about each other's deprecations.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
