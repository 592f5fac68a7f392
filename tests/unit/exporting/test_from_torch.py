"""Tracing: free batch axis, one file, the operator set that was asked for, and no chatter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeml.errors import ExportError
from edgeml.exporting.from_torch import OPSET, trace_image_model
from edgeml.exporting.graph import operator_set
from tests.unit.exporting.cores import run


class Pooled(nn.Module):
    """A convolution, a mean, a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.convolution(pixels).relu().mean(dim=(2, 3)))
        return logits


class Undecided(nn.Module):
    """Its path depends on its data: no graph can say that."""

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.sum() > 0:
            return pixels.mean(dim=(2, 3))
        return pixels.amax(dim=(2, 3))


def test_a_trace_answers_like_its_module_at_any_batch(
    rng: np.random.Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    module = Pooled().eval()
    model = trace_image_model(module, height=8, width=10)
    assert capfd.readouterr().out == ""
    onnx.checker.check_model(model)
    assert operator_set(model) == OPSET == 18
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "pixels",
        "logits",
    ]
    # One file: nothing lies beside it.
    assert all(row.data_location == onnx.TensorProto.DEFAULT for row in model.graph.initializer)
    for batch in (1, 2, 5):  # 2 is what it was traced with
        pixels = rng.normal(size=(batch, 3, 8, 10)).astype(np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(run(model, {"pixels": pixels}), expected, atol=1e-5)


def test_a_module_that_cannot_be_traced_is_told_in_one_line() -> None:
    with pytest.raises(ExportError, match="torch cannot trace this module") as caught:
        trace_image_model(Undecided().eval(), height=4, width=4)
    assert "\n" not in str(caught.value)
