"""From a torch module to an ONNX graph: free batch axis, one file, a stated operator set."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import torch
from torch import nn

from edgeml.errors import ExportError
from edgeml.exporting.declared import first_line
from edgeml.exporting.graph import operator_set

CORE_INPUT = "pixels"
CORE_OUTPUT = "logits"
OPSET = 18


def trace_image_model(module: nn.Module, *, height: int, width: int) -> onnx.ModelProto:
    """Trace a classifier over normalised images.

    Args:
        module: In evaluation mode; float32 ``(batch, 3, height, width)`` to logits ``(batch,
            classes)``.
        height: Rows of an image.
        width: Columns.

    Returns:
        A model of opset 18 with the input ``pixels`` and the output ``logits``, both float32.

    Raises:
        ExportError: torch cannot trace the module, or another operator set came out.
    """
    # Two samples: torch specialises an axis of size one.
    example = torch.zeros(2, 3, height, width)
    return export_program(
        module,
        (example,),
        input_names=[CORE_INPUT],
        output_names=[CORE_OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def export_program(
    module: nn.Module,
    args: tuple[torch.Tensor, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...] | None,
) -> onnx.ModelProto:
    """Export a module through torch's exporter, into one file of opset 18.

    Args:
        module: In evaluation mode.
        args: Examples of its arguments.
        input_names: Names of the graph's inputs.
        output_names: Names of its outputs.
        dynamic_shapes: Free axes as ``torch.export`` wants them; None fixes all.

    Raises:
        ExportError: torch cannot trace the module, or another operator set came out.
    """
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                module,
                args,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=dynamic_shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as exc:
        raise ExportError(
            f"torch cannot trace this module ({first_line(exc)}); a module without data-dependent "
            "control flow was expected; see torch.onnx's own report with --debug"
        ) from exc
    assert program is not None
    model = program.model_proto
    opset = operator_set(model)
    if opset != OPSET:
        raise ExportError(f"opset {opset} came out of the exporter; {OPSET} was asked for")
    return model


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's chatter off stdout, which may carry JSON, and its notes off stderr."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # torch's exporter uses a helper of its own that torch has deprecated.
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            # Several inputs share the batch axis, which is what is meant.
            warnings.filterwarnings("ignore", ".*shares the same shape constraints", UserWarning)
            yield
    finally:
        logger.setLevel(level)
