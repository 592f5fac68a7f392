"""From a torch module to opset 18: any number of inputs, each with a free batch axis."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping

import onnx
import torch
from torch import Tensor, nn

from benchmarks.zoo.built import OUTPUT

_OPSET = 18


def trace(module: nn.Module, example: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Trace a module whose arguments come in the order of the example.

    Args:
        module: In evaluation mode; gives logits.
        example: Input name to a tensor of two samples: an axis of one would be fixed.

    Raises:
        ValueError: Another operator set came out.
    """
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(example),
            output_names=[OUTPUT],
            dynamic_shapes=tuple({0: batch} for _ in example),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    opset = next(row.version for row in model.opset_import if row.domain in ("", "ai.onnx"))
    if opset != _OPSET:
        raise ValueError(f"opset {opset} came out of the exporter; {_OPSET} was asked for")
    return model


@contextlib.contextmanager
def _quiet():
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about its own helpers
            yield
    finally:
        logger.setLevel(level)
