"""What a graph really takes and gives: its declared axes are a claim, running it is the proof.

A graph may call its first axis free and hold a Reshape to one sample; it may leave its outputs
without a shape. It is run at two batch sizes, and at two sizes of each other free axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError
from edgeml.exporting.declared import BATCH, declared_names
from edgeml.exporting.trying import GraphTrial, Shapes, free_axes


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What running a graph showed.

    Attributes:
        signature: What it takes and gives.
        sizes: A size for each axis but the batch that is declared free, at which it ran.
        notes: What is not as the file declares.
    """

    signature: ModelSignature
    sizes: Mapping[str, int]
    notes: tuple[str, ...]


def find_signature(model: onnx.ModelProto, trial: GraphTrial, *, name: str) -> Tried:
    """Run a graph at several sizes, and say what it takes and gives.

    Args:
        model: The graph.
        trial: The same, to be run.
        name: The file, for messages.

    Raises:
        InputError: It does not run, or an output has no batch axis first.
    """
    sizes, base = trial.first_sizes()
    _check_batch_first(base, name=name)
    notes: list[str] = []
    inputs, doubled = trial.inputs, base
    if inputs[0].shape[0] == BATCH:
        two = trial.shapes(batch=2, sizes=sizes)
        reason = _not_batched(two)
        if reason or isinstance(two, str):
            notes.append(f"the graph cannot take batches: {reason}; the batch is fixed to 1")
            inputs = tuple(_fix(spec, BATCH, 1) for spec in inputs)
        else:
            doubled = two
    varied, stuck = _vary(trial, sizes)
    for axis, reason in stuck.items():
        notes.append(f"the axis '{axis}' is fixed to {sizes[axis]}: {reason}")
        inputs = tuple(_fix(spec, axis, sizes[axis]) for spec in inputs)
    first = inputs[0].shape[0]
    outputs = tuple(
        TensorSpec(
            name=row.name,
            dtype=trial.dtypes[row.name],
            shape=(first, *_output_axes(row, base, doubled, varied, sizes=sizes)),
        )
        for row in model.graph.output
    )
    signature = ModelSignature(inputs=inputs, outputs=outputs)
    return Tried(signature=signature, sizes=sizes, notes=tuple(notes))


def _check_batch_first(base: Shapes, *, name: str) -> None:
    for output, shape in base.items():
        if not shape or shape[0] != 1:
            found = f"has the shape {shape}" if shape else "is a scalar"
            raise InputError(
                f"the output '{output}' {found} for one sample; the batch was expected as its "
                "first axis; export the model without it, or with the batch first",
                item=name,
            )


@dataclass(frozen=True, kw_only=True)
class _Variation:
    """Outputs' shapes where some free axes had another size."""

    axes: Mapping[str, int]
    shapes: Shapes


def _vary(trial: GraphTrial, sizes: Mapping[str, int]) -> tuple[list[_Variation], dict[str, str]]:
    """Give each free axis another size: alone, or with others that cannot change alone.

    Returns:
        What came out, and each axis that cannot change with the reason.
    """
    varied: list[_Variation] = []
    stuck: dict[str, str] = {}
    for axis in free_axes(trial.inputs):
        found = _other_sizes(trial, sizes, (axis,))
        if isinstance(found, str):
            stuck[axis] = found
        else:
            varied.append(found)
    if len(stuck) > 1:
        together = _other_sizes(trial, sizes, tuple(stuck))
        if not isinstance(together, str):
            varied.append(together)
            stuck = {}
    return varied, stuck


def _other_sizes(
    trial: GraphTrial, sizes: Mapping[str, int], axes: tuple[str, ...]
) -> _Variation | str:
    halved = {axis: max(1, sizes[axis] // 2) for axis in axes}
    shapes: Shapes | str = ""
    for others in (halved, {axis: 2 * sizes[axis] for axis in axes}):
        shapes = trial.shapes(batch=1, sizes={**sizes, **others})
        if not isinstance(shapes, str):
            return _Variation(axes=others, shapes=shapes)
    return str(shapes)


def _not_batched(two: Shapes | str) -> str:
    """Return why a run with two samples shows that the batch is not free; empty if it is."""
    if isinstance(two, str):
        return f"two samples fail ({two})"
    for output, shape in two.items():
        if not shape or shape[0] != 2:
            return f"for two samples the output '{output}' has the shape {shape}"
    return ""


def _fix(spec: TensorSpec, axis: str, size: int) -> TensorSpec:
    return replace(spec, shape=tuple(size if one == axis else one for one in spec.shape))


def _output_axes(
    row: onnx.ValueInfoProto,
    base: Shapes,
    doubled: Shapes,
    varied: list[_Variation],
    *,
    sizes: Mapping[str, int],
) -> tuple[int | str, ...]:
    """Return an output's axes after the batch: fixed, an input's, or free with a name."""
    declared = declared_names(row)
    taken = {BATCH, *sizes}
    axes: list[int | str] = []
    for position in range(1, len(base[row.name])):
        size = base[row.name][position]
        changes = [one for one in varied if _size(one.shapes[row.name], position) != size]
        if not changes and _size(doubled[row.name], position) == size:
            axes.append(size)
            continue
        follows = [
            axis
            for one in changes
            for axis, other in one.axes.items()
            if sizes[axis] == size and _size(one.shapes[row.name], position) == other
        ]
        said = declared[position] if position < len(declared) else ""
        own = said if said and said not in taken else f"{row.name}_axis{position}"
        axes.append(follows[0] if len(changes) == 1 and follows else own)
    return tuple(axes)


def _size(shape: tuple[int, ...], position: int) -> int:
    return shape[position] if position < len(shape) else -1
