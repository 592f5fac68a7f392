"""Any torch module to an ONNX graph, proven against the module, and the module as the yardstick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, ExportError, InferenceError, ParityError
from edgeml.exporting.declared import BATCH, first_line, runtime_reason
from edgeml.exporting.from_torch import export_program

_OUTPUT = "output"
# The same arithmetic in another order of additions, as a share of the largest value above one.
_TOLERANCE = 1e-4
# Sizes to compare at; it is traced with two.
_CHECKED_BATCHES = (1, 3)
_HALVES = (torch.float16, torch.bfloat16)


def trace_module(
    module: nn.Module, examples: Mapping[str, Tensor]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Trace a module with a free batch axis, and compare the graph with it.

    Args:
        module: Put into evaluation mode, on the CPU, in float32 where it was in half precision.
        examples: Parameter of ``forward`` to a tensor, batch first; the batch axis is the only one
            that becomes free.

    Returns:
        A model of opset 18 whose inputs are named as the parameters, and whose outputs are named as
        the keys of the module's answer, or ``output``, or ``output_0`` and so on; and what is to be
        said about it, each a sentence.

    Raises:
        ExportError: The module fails on the examples, answers with something other than tensors, or
            torch cannot trace it.
        ParityError: The graph answers differently from the module.
    """
    notes: list[str] = []
    if any(row.dtype in _HALVES for row in module.parameters()):
        module.float()
        notes.append("the module's parameters were in half precision; they are float32 here")
    module.eval().cpu()
    names, outputs = list(examples), _named_answers(module, examples)
    taken = _output_names(list(outputs), names)
    flat = _Flat(module, names).eval()
    model, why = _export(flat, examples, names, taken)
    if why:
        notes.append(f"torch cannot make the batch axis free ({why}); the graph takes one sample")
    _compare(model, flat, examples, (1,) if why else _CHECKED_BATCHES)
    return model, tuple(notes)


def _export(
    flat: _Flat, examples: Mapping[str, Tensor], inputs: list[str], outputs: list[str]
) -> tuple[onnx.ModelProto, str]:
    """Export with a free batch, or else with a batch of one and the reason why."""

    def attempt(count: int, axes: tuple[Any, ...] | None) -> onnx.ModelProto:
        rows = tuple(_rows(value, count) for value in examples.values())
        return export_program(
            flat, rows, input_names=inputs, output_names=outputs, dynamic_shapes=axes
        )

    try:
        return attempt(2, (({0: torch.export.Dim(BATCH)},) * len(inputs),)), ""
    except ExportError as free:
        try:
            return attempt(1, None), first_line(free.__cause__ or free)
        except ExportError:
            raise free from free.__cause__


class TorchReference:
    """A module's own answers: the yardstick beside the variants, never what is deployed.

    Args:
        module: What was traced.
        signature: Of the traced graph; its inputs are parameters of ``forward``.
        num_threads: Threads of torch, set for the whole process; None leaves them.
    """

    def __init__(
        self, module: nn.Module, signature: ModelSignature, *, num_threads: int | None = None
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._module: nn.Module | None = module.eval()
        self._signature = signature

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device and precision."""
        return "torch/cpu/fp32"

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run a feed in inference mode.

        Args:
            tensors: Input name to array, batch first.

        Returns:
            Output name to array, batch first.

        Raises:
            SignatureError: The feed does not fit.
            InferenceError: The module raised.
            ClosedError: The reference was closed.
        """
        if self._module is None:
            raise ClosedError
        self._signature.check_inputs(tensors)
        names = [spec.name for spec in self._signature.inputs]
        # Copies: torch takes no read-only arrays, and a module may work in place.
        feed = {name: torch.from_numpy(np.array(tensors[name])) for name in names}
        try:
            answers = list(_answers(self._module, feed).values())
        except Exception as exc:
            raise InferenceError(reason=first_line(exc)) from exc
        specs = self._signature.outputs
        return {spec.name: row.numpy() for spec, row in zip(specs, answers, strict=True)}

    def close(self) -> None:
        """Release the module."""
        self._module = None


class _Flat(nn.Module):
    """A module behind positional tensors, in the order of their names, to a tuple of tensors."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module = module
        self._names = names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the module by keyword."""
        answer = self.module(**dict(zip(self._names, tensors, strict=True)))
        return tuple(_flattened(answer).values())


def _flattened(answer: Any) -> dict[str, Tensor]:
    """Return a module's answer as named tensors; what is None is left out.

    Raises:
        ExportError: It holds something else.
    """
    if isinstance(answer, Tensor):
        return {_OUTPUT: answer}
    if isinstance(answer, Mapping):
        rows = {str(key): value for key, value in answer.items()}
    elif isinstance(answer, (tuple, list)):
        fields = getattr(answer, "_fields", [f"{_OUTPUT}_{i}" for i in range(len(answer))])
        rows = dict(zip(fields, answer, strict=True))
    else:
        rows = {_OUTPUT: answer}
    rows = {name: value for name, value in rows.items() if value is not None}
    for name, value in rows.items():
        if not isinstance(value, Tensor):
            raise ExportError(
                f"the module's answer '{name}' is a {type(value).__name__}; a tensor, or a tuple "
                "or dict of tensors was expected; wrap the module so that it returns these"
            )
    if not rows:
        raise ExportError("the module answers with no tensor; at least one was expected")
    return rows


def _answers(module: nn.Module, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        return _flattened(module(**feed))


def _named_answers(module: nn.Module, examples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return _answers(module, {name: value.clone() for name, value in examples.items()})
    except ExportError:
        raise
    except Exception as exc:  # it is the user's code: it raises anything
        raise ExportError(
            f"the module fails on its examples ({type(exc).__name__}: {first_line(exc)}); inputs "
            "that it can answer were expected; correct the examples or the module"
        ) from exc


def _output_names(keys: list[str], inputs: list[str]) -> list[str]:
    """Return names of outputs that no input has: a graph knows a tensor by its name alone."""
    return [f"{_OUTPUT}_{key}" if key in inputs else key for key in keys]


def _rows(value: Tensor, count: int) -> Tensor:
    """Return so many rows of an example, repeating them where it has fewer."""
    return value[torch.arange(count) % value.shape[0]].clone()


def _compare(
    model: onnx.ModelProto,
    flat: _Flat,
    examples: Mapping[str, Tensor],
    batches: tuple[int, ...],
) -> None:
    """Refuse a graph whose answers to the examples are not the module's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    names = [row.name for row in model.graph.output]
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for batch in batches:
            rows = {name: _rows(value, batch) for name, value in examples.items()}
            found = session.run(names, {name: row.numpy() for name, row in rows.items()})
            with torch.inference_mode():
                wanted = flat(*rows.values())
            for ours, theirs in zip(found, wanted, strict=True):
                _check_close(np.asarray(ours), theirs.numpy())
    except ExportError:
        raise
    except Exception as exc:  # neither library's exceptions share a base
        raise ExportError(
            f"the traced graph does not run as the module does ({runtime_reason(exc)}); a module "
            "that answers batches of any size was expected; see torch's own report with --debug"
        ) from exc


def _check_close(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    if found.shape != wanted.shape:
        raise ExportError(
            f"the traced graph answers with the shape {found.shape}, the module with "
            f"{wanted.shape}; the same was expected"
        )
    if not wanted.size:
        return
    ours, theirs = found.astype(np.float64), wanted.astype(np.float64)
    gaps = np.where(
        (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0, np.abs(ours - theirs)
    )
    gaps = (
        np.nan_to_num(gaps, nan=np.inf).reshape(len(gaps), -1) if gaps.ndim else gaps.reshape(1, 1)
    )
    finite = np.abs(theirs[np.isfinite(theirs)])
    worst = float(gaps.max() / max(1.0, finite.max(initial=0.0)))
    if worst > _TOLERANCE:
        sample = int(gaps.max(axis=1).argmax())
        raise ParityError(variant="fp32", max_abs_diff=worst, tolerance=_TOLERANCE, sample=sample)
