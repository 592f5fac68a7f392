"""From a torch module to an ONNX graph: free batch axis, one file, a stated operator set."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn

from edgeml.errors import ExportError

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
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[CORE_INPUT],
                output_names=[CORE_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
    except Exception as exc:
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise ExportError(
            f"torch cannot trace this module ({reason}); a module without data-dependent control "
            "flow was expected; see torch.onnx's own report with --debug"
        ) from exc
    assert program is not None
    model = program.model_proto
    opset = operator_set(model)
    if opset != OPSET:
        raise ExportError(f"opset {opset} came out of the exporter; {OPSET} was asked for")
    return model


def operator_set(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set that a model uses."""
    return int(next(row.version for row in model.opset_import if row.domain in ("", "ai.onnx")))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter off stdout, which may carry JSON, and its notes off stderr."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # torch's exporter uses a helper of its own that torch has deprecated.
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
