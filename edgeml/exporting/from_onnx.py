"""An ONNX file from anywhere as the source of an export: read, run, and described as it really is.

No torch here: whoever has a graph needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import version_converter

from edgeml.core.signature import ModelSignature
from edgeml.errors import InputError
from edgeml.exporting.assembling import IR_VERSION, strip_notes, value_info
from edgeml.exporting.declared import BATCH, declared_inputs, first_line, known_channels
from edgeml.exporting.finding_axes import Tried, find_signature
from edgeml.exporting.onnx_files import DEFAULT_DOMAINS, read_onnx
from edgeml.exporting.recognising import guess_vocabulary, recognise_quantized
from edgeml.exporting.trying import GraphTrial, free_axes

# Quantization per channel needs 13; LayerNormalization is an operator from 17 on.
_OLDEST_OPSET = 13
_MODERN_OPSET = 17
# A converted graph against the one that it was: the same operators in another spelling.
_CONVERSION_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A graph from elsewhere, and what is known of it.

    Attributes:
        model: One file's worth, whose inputs and outputs are declared as in ``signature``.
        signature: What it takes and gives, as running it showed.
        quantized: How it is quantized already, such as ``QDQ, 49 Conv``; empty if it is not.
        opset: The file's operator set; that of ``model`` may be newer.
        notes: What is not as the file declares, and what was done about it; each a sentence.
        vocabulary: Integer input to how many values it may have, for made-up inputs.
        sizes: A size for each free axis but the batch at which the graph runs, likewise.
    """

    model: onnx.ModelProto
    signature: ModelSignature
    quantized: str
    opset: int
    notes: tuple[str, ...] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def load_onnx(path: Path) -> OnnxModel:
    """Read an ONNX file and find out what it takes and gives.

    The batch must be the first axis of every input and output. A graph that declares it free and
    cannot take two samples is described with a batch of one, and a note says so.

    Args:
        path: The file; external data lies beside it.

    Raises:
        InputError: It is not an ONNX model, over 2 GB, of an operator set outside 11 to 22, has a
            tensor that is not of numbers or has no batch axis, or ONNX Runtime cannot run it.
    """
    return describe_graph(read_onnx(path), name=str(path))


def describe_graph(model: onnx.ModelProto, *, name: str) -> OnnxModel:
    """Find out what a graph takes and gives, whoever made it.

    Args:
        model: One file's worth, without initializers among its inputs; it is changed.
        name: What it is called in messages.

    Raises:
        InputError: It has a tensor that is not of numbers or has no batch axis, or ONNX Runtime
            cannot run it.
    """
    opset = _opset(model)
    inputs = declared_inputs(model, name=name)
    vocabulary, channels = guess_vocabulary(model), known_channels(model, inputs)
    trial = GraphTrial(model, inputs, vocabulary=vocabulary, channels=channels, name=name)
    tried = find_signature(model, trial, name=name)
    notes = list(tried.notes)
    newer, note = modernise(model)
    if note:
        model, said = _if_equal(trial, model, newer, tried, name=name)
        notes.append(f"{note}{said}")
    _declare(model, tried.signature)
    strip_notes(model)
    return OnnxModel(
        model=model,
        signature=tried.signature,
        quantized=recognise_quantized(model),
        opset=opset,
        notes=tuple(notes),
        vocabulary=vocabulary,
        sizes={axis: tried.sizes[axis] for axis in free_axes(tried.signature.inputs)},
    )


def modernise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Convert a graph of an old operator set to 17; a newer one is returned as it is.

    Args:
        model: It is not changed.

    Returns:
        The graph, and what was done or could not be, in words; empty where nothing was to do. The
        caller makes sure that both graphs answer alike.
    """
    opset = _opset(model)
    if opset >= _OLDEST_OPSET:
        return model, ""
    try:
        newer = version_converter.convert_version(model, _MODERN_OPSET)
        newer.ir_version = min(newer.ir_version, IR_VERSION)
    except Exception as exc:  # the converter raises anything
        return model, f"opset {opset} is kept: it cannot be converted ({first_line(exc)})"
    return newer, f"opset {opset} was converted to {_MODERN_OPSET}"


def _if_equal(
    trial: GraphTrial, model: onnx.ModelProto, newer: onnx.ModelProto, tried: Tried, *, name: str
) -> tuple[onnx.ModelProto, str]:
    """Return the converted graph where it answers as the file does, else the file's; with words."""
    if newer is model:
        return model, ""
    try:
        other = trial.of(newer)
    except InputError as exc:
        return model, f", and is kept instead: {exc}"
    worst = 0.0
    batches = (1, 2) if tried.signature.inputs[0].shape[0] == BATCH else (1,)
    for batch in batches:
        ours = trial.run(batch=batch, sizes=tried.sizes, seed=batch)
        theirs = other.run(batch=batch, sizes=tried.sizes, seed=batch)
        worst = max(worst, _distance(ours, theirs))
    if worst > _CONVERSION_TOLERANCE:
        return model, f", and is kept instead: the answers differ by {worst:.2g}"
    return newer, f" (answers on made-up inputs differ by {worst:.2g} at most)"


def _distance(
    ours: dict[str, npt.NDArray[Any]] | str, theirs: dict[str, npt.NDArray[Any]] | str
) -> float:
    """Return the largest difference, as a share of the largest value where that is above one."""
    if isinstance(ours, str) or isinstance(theirs, str):
        return np.inf
    worst = 0.0
    for name, value in ours.items():
        if value.shape != theirs[name].shape:
            return np.inf
        if value.size:
            wanted, found = value.astype(np.float64), theirs[name].astype(np.float64)
            gap = np.nan_to_num(np.abs(wanted - found), nan=np.inf).max()
            worst = max(worst, float(gap / max(1.0, np.abs(wanted).max())))
    return worst


def _opset(model: onnx.ModelProto) -> int:
    return int(next(row.version for row in model.opset_import if row.domain in DEFAULT_DOMAINS))


def _declare(model: onnx.ModelProto, signature: ModelSignature) -> None:
    """Let the file say what is true; shapes in between are inferred anew by whoever needs them."""
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(value_info(spec) for spec in signature.inputs)
    graph.output.extend(value_info(spec) for spec in signature.outputs)
