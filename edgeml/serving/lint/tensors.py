"""Rules about inputs and outputs: the configuration against each ONNX file that it may open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.graphs import Graph, Side
from edgeml.serving.lint.subjects import ConfigFile, Model

Judge = Callable[[ConfigFile, str, Any, Side], str]


def _undeclared_side(config: ConfigFile) -> Iterator[Fault]:
    missing = [side for side in ("input", "output") if not getattr(config.message, side)]
    if missing:
        yield Fault(
            message=f"the configuration declares no {' and no '.join(missing)}, so a server opens "
            "the default file to complete it, on a GPU if there is one; both sides were expected; "
            "write them",
        )


def _unknown(config: ConfigFile) -> Iterator[Fault]:
    for side, number, row in _rows(config):
        for name, graph in config.graphs():
            found = _sides(graph, side)
            if row.name not in found:
                yield Fault(
                    message=f"the {side} '{row.name}' is not in '{name}'; one of "
                    f"{', '.join(found) or 'none'} was expected; correct the name",
                    line=config.line(side, number, "name"),
                )
                break


def _undeclared(side: str) -> Callable[[ConfigFile], Iterator[Fault]]:
    def check(config: ConfigFile) -> Iterator[Fault]:
        declared = {row.name for row in getattr(config.message, side)}
        for name, graph in config.graphs() if declared else ():
            for tensor in _sides(graph, side):
                if tensor not in declared:
                    yield Fault(
                        message=f"'{name}' has the {side} '{tensor}', which the configuration does "
                        "not declare; all of them were expected; write it",
                        line=config.line(side),
                    )
            break

    return check


def _dtype(config: ConfigFile, kind: str, row: Any, side: Side) -> str:
    del config, kind
    declared = model_config_pb2.DataType.Name(row.data_type)
    if declared == side.dtype:
        return ""
    return f"is declared as {declared} and is {side.dtype or 'no tensor of a known type'}"


def _dims(config: ConfigFile, kind: str, row: Any, side: Side) -> str:
    if side.dims is None or _fixed_batch(config, kind, row, side):
        return ""
    dims = list(row.reshape.shape if row.HasField("reshape") else row.dims)
    found = list(side.dims[1:] if config.message.max_batch_size > 0 else side.dims)
    # A graph that leaves an axis free takes any size; one that fixes it takes that alone. What it
    # leaves free among its outputs has to be declared as free: NVIDIA's backend compares exactly.
    exact = [-1 if axis is None else axis for axis in found]
    fits = len(dims) == len(found) and all(
        axis == wanted or (axis == -1 and kind == "input")
        for axis, wanted in zip(exact, dims, strict=True)
    )
    if fits:
        return ""
    batch = "behind the batch" if config.message.max_batch_size > 0 else "with max_batch_size 0"
    return f"is declared with dims {dims} and has {_written(found)} {batch}"


def _fixed_batch(config: ConfigFile, kind: str, row: Any, side: Side) -> str:
    del kind, row
    if config.message.max_batch_size <= 0 or side.dims is None or side.dims[:1] == (None,):
        return ""
    first = f"a first axis of {side.dims[0]}" if side.dims else "no axis at all"
    return (
        f"has {first}, and max_batch_size {config.message.max_batch_size} needs a free one; export "
        "with a dynamic batch, or set max_batch_size to 0 and declare every axis"
    )


def _judged(judge: Judge, *, field: str, then: str) -> Callable[[ConfigFile], Iterator[Fault]]:
    def check(config: ConfigFile) -> Iterator[Fault]:
        for side, number, row in _rows(config):
            for name, graph in config.graphs():
                tensor = _sides(graph, side).get(row.name)
                if tensor is not None and (what := judge(config, side, row, tensor)):
                    yield Fault(
                        message=f"the {side} '{row.name}' {what} (in '{name}'){then}",
                        line=config.line(side, number, field),
                    )
                    break

    return check


def _differing(model: Model) -> Iterator[Fault]:
    """Compare each file of the model with the first: any of them may answer a request."""
    seen: dict[str, Graph] = {}
    for config in model.configs:
        for name, graph in config.graphs():
            if name in seen:
                continue
            seen[name] = graph
            first, other = next(iter(seen.items()))
            what = _difference(other, graph)
            if what:
                yield Fault(
                    message=f"'{name}' and '{first}' are files of one model, and {what}; the same "
                    "names, types and dims were expected; export them alike (fp16 with fp32 sides)",
                    file=config.file,
                )


def _difference(one: Graph, other: Graph) -> str:
    for side in ("input", "output"):
        left, right = _sides(one, side), _sides(other, side)
        if set(left) != set(right):
            return f"their {side}s are {', '.join(left)} and {', '.join(right)}"
        for name in left:
            if left[name] != right[name]:
                return f"their {side} '{name}' is {_shown(left[name])} and {_shown(right[name])}"
    return ""


def _rows(config: ConfigFile) -> Iterator[tuple[str, int, Any]]:
    for side in ("input", "output"):
        for number, row in enumerate(getattr(config.message, side)):
            yield side, number, row


def _sides(graph: Graph, side: str) -> dict[str, Side]:
    return graph.inputs if side == "input" else graph.outputs


def _written(dims: list[int | None]) -> str:
    return f"[{', '.join('free' if axis is None else str(axis) for axis in dims)}]"


def _shown(side: Side) -> str:
    return f"{side.dtype or 'no tensor'} {_written(list(side.dims or ()))}"


_CORRECT = "; the file's own was expected; correct the configuration or export again"

CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="sides-undeclared", level="error", check=_undeclared_side),
    Rule(name="tensor-unknown", level="error", check=_unknown),
    Rule(name="input-undeclared", level="error", check=_undeclared("input")),
    Rule(name="output-undeclared", level="note", check=_undeclared("output")),
    Rule(
        name="tensor-dtype",
        level="error",
        check=_judged(_dtype, field="data_type", then=_CORRECT),
    ),
    Rule(name="tensor-dims", level="error", check=_judged(_dims, field="dims", then=_CORRECT)),
    Rule(
        name="batch-axis-fixed", level="error", check=_judged(_fixed_batch, field="name", then="")
    ),
)
MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule(name="artefacts-differ", level="error", check=_differing),
)
