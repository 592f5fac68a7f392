"""Any module: its names, a free batch where torch can give one, and a graph that answers alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeml.errors import ClosedError, ExportError, InferenceError, ParityError, SignatureError
from edgeml.exporting import module_tracing
from edgeml.exporting.from_onnx import describe_graph
from edgeml.exporting.module_tracing import TorchReference, trace_module
from tests.unit.exporting.cores import run


class Answering(nn.Module):
    """A layer whose answer takes the form that is asked for."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.form = form

    def forward(self, first: Tensor, ids: Tensor | None = None) -> Any:
        answer = self.linear(first)
        if ids is not None:
            answer = answer + ids.to(answer.dtype)[:, None]
        return {
            "tensor": answer,
            "tuple": (answer, answer.sum(dim=1, keepdim=True)),
            "dict": {"scores": answer, "first": first * 2, "cache": None},
            "text": "no tensor",
            "deep": {"scores": [answer]},
            "empty": {},
        }[self.form]


class Fixed(nn.Module):
    """One sample at a time: its batch cannot be free."""

    def forward(self, x: Tensor) -> Tensor:
        rows = [row * position for position, row in enumerate(x.reshape(1, 2, 4).unbind(dim=1))]
        return rows[0] + rows[1]


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("form", "outputs"),
    [
        ("tensor", ["output"]),
        ("tuple", ["output_0", "output_1"]),
        ("dict", ["scores", "output_first"]),
    ],
)
def test_names_come_from_parameters_and_answers(form: str, outputs: list[str]) -> None:
    module = Answering(form)
    examples = {"first": torch.randn(1, 4), "ids": torch.tensor([2])}
    model, notes = trace_module(module, examples)
    assert notes == ()
    loaded = describe_graph(model, name="m")
    assert [spec.describe() for spec in loaded.signature.inputs] == [
        "float32 (batch, 4)",
        "int64 (batch)",
    ]
    assert [spec.name for spec in loaded.signature.inputs] == ["first", "ids"]
    assert [spec.name for spec in loaded.signature.outputs] == outputs
    assert all(spec.shape[0] == "batch" for spec in loaded.signature.outputs)


def test_the_graph_and_the_reference_answer_alike_at_any_batch(rng: np.random.Generator) -> None:
    module = Answering("tensor").train()
    model, _ = trace_module(module, {"first": torch.randn(5, 4)})
    assert not module.training
    reference = TorchReference(module, describe_graph(model, name="m").signature)
    for batch in (1, 2, 7):
        feed = {"first": rng.normal(size=(batch, 4)).astype(np.float32)}
        feed["first"].flags.writeable = False
        np.testing.assert_allclose(run(model, feed), reference.run(feed)["output"], atol=1e-5)
    with pytest.raises(SignatureError):
        reference.run({"first": np.ones((2, 5), dtype=np.float32)})
    reference.close()
    with pytest.raises(ClosedError):
        reference.run({"first": np.ones((2, 4), dtype=np.float32)})


def test_a_batch_that_torch_cannot_free_is_one_and_said() -> None:
    model, notes = trace_module(Fixed(), {"x": torch.randn(1, 8)})
    assert len(notes) == 1
    assert notes[0].startswith("torch cannot make the batch axis free (")
    assert describe_graph(model, name="m").signature.inputs[0].shape == (1, 8)
    x = np.arange(8, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(model, {"x": x}), x[:, 4:])


def test_half_precision_becomes_float32_and_is_said() -> None:
    module = Answering("tensor").half()
    model, notes = trace_module(module, {"first": torch.randn(2, 4)})
    assert "half precision" in notes[0]
    assert describe_graph(model, name="m").signature.outputs[0].dtype == "float32"


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (Answering("text"), "answer 'output' is a str"),
        (Answering("deep"), "answer 'scores' is a list"),
        (Answering("empty"), "answers with no tensor"),
        (Undecided(), "torch cannot trace this module"),
    ],
)
def test_what_is_no_graph_is_told_in_one_line(module: nn.Module, found: str) -> None:
    name = "first" if isinstance(module, Answering) else "x"
    with pytest.raises(ExportError, match=found) as caught:
        trace_module(module, {name: torch.ones(2, 4)})
    assert "\n" not in str(caught.value)


def test_examples_that_the_module_cannot_take_are_told() -> None:
    with pytest.raises(ExportError, match=r"fails on its examples \(RuntimeError: mat1"):
        trace_module(Answering("tensor"), {"first": torch.ones(2, 5)})


def test_a_module_that_does_not_answer_twice_alike_is_refused() -> None:
    with pytest.raises(ParityError, match="differs from its source"):
        trace_module(Random(), {"x": torch.ones(2, 4)})


def test_a_wrong_graph_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module_tracing.export_program
    other = Answering("tensor")

    def wrong(module: nn.Module, *rows: Any, **options: Any) -> Any:
        return real(module_tracing._Flat(other, ["first"]).eval(), *rows, **options)

    monkeypatch.setattr(module_tracing, "export_program", wrong)
    with pytest.raises(ParityError):
        trace_module(Answering("tensor"), {"first": torch.randn(2, 4)})


def test_a_reference_that_raises_is_translated() -> None:
    module = Answering("tensor")
    model, _ = trace_module(module, {"first": torch.randn(2, 4)})
    reference = TorchReference(module, describe_graph(model, name="m").signature)
    module.linear = nn.Linear(9, 3)
    with pytest.raises(InferenceError, match="mat1 and mat2"):
        reference.run({"first": np.ones((2, 4), dtype=np.float32)})
