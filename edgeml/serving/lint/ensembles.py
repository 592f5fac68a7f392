"""Rules about ensembles: models that run one another by passing named tensors on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import model_config_pb2

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile


@dataclass(frozen=True, kw_only=True)
class _End:
    """Where a tensor of an ensemble meets a model: the declared row, and whose it is.

    Attributes:
        tensor: The tensor's name inside the ensemble.
        dtype: Triton's name of its type.
        dims: Its dims as the ensemble's other tensors meet them.
        batched: Whether its model has a batch in front of the dims.
        owner: Whose input or output it is, in words.
        makes: Whether the tensor comes from here.
        line: Line of the step, or of the ensemble's own declaration.
    """

    tensor: str
    dtype: str
    dims: list[int]
    batched: bool
    owner: str
    makes: bool
    line: int | None


def _unknown_step(config: ConfigFile) -> Iterator[Fault]:
    for number, step in _steps(config):
        if step.model_name not in config.context.models:
            yield Fault(
                message=f"the ensemble runs '{step.model_name}', which is not in the repository; "
                "publish the bundle again, or correct the name",
                line=_line(config, number, "model_name"),
            )


def _other_version(config: ConfigFile) -> Iterator[Fault]:
    for number, step in _steps(config):
        model = config.context.models.get(step.model_name)
        named = model.named_versions if model else ()
        if named and step.model_version not in (-1, *named):
            yield Fault(
                message=f"the ensemble runs version {step.model_version} of '{step.model_name}', "
                f"which serves {', '.join(map(str, named))}; publish the bundle again",
                line=_line(config, number, "model_version"),
            )


def _large_batch(config: ConfigFile) -> Iterator[Fault]:
    most = config.message.max_batch_size
    for number, step in _steps(config):
        model = config.context.models.get(step.model_name)
        # A model that does not batch may stand in a batching ensemble: its dims hold the batch.
        if model and 0 < model.message.max_batch_size < most:
            yield Fault(
                message=f"the ensemble's max_batch_size is {most} and that of '{step.model_name}' "
                f"is {model.message.max_batch_size}; at most as much was expected; lower it",
                line=_line(config, number),
            )


def _unknown_tensor(config: ConfigFile) -> Iterator[Fault]:
    for number, step in _steps(config):
        model = config.context.models.get(step.model_name)
        if model is None:
            continue
        inputs = {row.name: row for row in model.message.input}
        outputs = {row.name for row in model.message.output}
        missing = [name for name, row in inputs.items() if not row.optional]
        wrong = [f"no input '{key}'" for key in sorted(step.input_map) if key not in inputs]
        wrong += [f"no output '{key}'" for key in sorted(step.output_map) if key not in outputs]
        wrong += [f"the input '{key}', not fed" for key in missing if key not in step.input_map]
        if wrong:
            yield Fault(
                message=f"'{step.model_name}' has {', '.join(wrong)}; its own inputs and outputs "
                "were expected in the maps; correct the step",
                line=_line(config, number),
            )


def _differing(config: ConfigFile) -> Iterator[Fault]:
    makers = {end.tensor: end for end in _ends(config) if end.makes}
    for end in _ends(config):
        maker = makers.get(end.tensor)
        if end.makes or maker is None or _meet(maker, end):
            continue
        yield Fault(
            message=f"the tensor '{end.tensor}' is {_shown(maker)} and {_shown(end)}; the same "
            "type and dims were expected; correct the maps or the models",
            line=end.line,
        )


def _not_produced(config: ConfigFile) -> Iterator[Fault]:
    made = {name for _, step in _steps(config) for name in step.output_map.values()}
    for number, row in enumerate(config.message.output if config.is_ensemble else ()):
        if row.name not in made:
            yield Fault(
                message=f"no step makes the ensemble's output '{row.name}'; a value of some "
                "output_map was expected; add it or remove the output",
                line=config.line("output", number, "name"),
            )


def _not_fed(config: ConfigFile) -> Iterator[Fault]:
    made = {name for _, step in _steps(config) for name in step.output_map.values()}
    made.update(row.name for row in config.message.input)
    for number, step in _steps(config):
        for key, name in sorted(step.input_map.items()):
            if name not in made:
                yield Fault(
                    message=f"'{step.model_name}' takes '{name}' as '{key}', and nobody makes it; "
                    "an input of the ensemble or an output of a step was expected; correct the map",
                    line=_line(config, number),
                )


def _made_twice(config: ConfigFile) -> Iterator[Fault]:
    made = {row.name: "a caller" for row in config.message.input}
    for number, step in _steps(config):
        for name in sorted(step.output_map.values()):
            if name in made:
                yield Fault(
                    message=f"'{step.model_name}' makes the tensor '{name}', which comes from "
                    f"{made[name]} already; one maker was expected; rename it in one map",
                    line=_line(config, number),
                )
            made[name] = f"'{step.model_name}'"


def _cycle(config: ConfigFile) -> Iterator[Fault]:
    """Remove steps whose inputs are all there, again and again: what stays waits for itself."""
    waiting = dict(_steps(config))
    while waiting:
        unmade = {name for step in waiting.values() for name in step.output_map.values()}
        ready = [n for n, step in waiting.items() if unmade.isdisjoint(step.input_map.values())]
        if not ready:
            names = ", ".join(step.model_name for step in waiting.values())
            yield Fault(
                message=f"the steps {names} wait for one another; an order in which each has its "
                "inputs was expected; correct the maps",
                line=_line(config, min(waiting)),
            )
            return
        for number in ready:
            del waiting[number]
    if config.is_ensemble and config.folder.name in _reached(config):
        yield Fault(
            message="the ensemble runs itself, directly or through another; models below it were "
            "expected; correct the steps",
            line=config.line("ensemble_scheduling"),
        )


def _reached(config: ConfigFile) -> set[str]:
    """Return every model that an ensemble runs, and those that these run."""
    reached: set[str] = set()
    waiting = [step.model_name for _, step in _steps(config)]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        model = config.context.models.get(name)
        if model is not None:
            waiting.extend(step.model_name for _, step in _steps(model))
    return reached


def _ends(config: ConfigFile) -> Iterator[_End]:
    """Yield every place where a tensor of the ensemble meets a declaration."""
    for side in ("input", "output") if config.is_ensemble else ():
        for number, row in enumerate(getattr(config.message, side)):
            yield _End(
                tensor=row.name,
                dtype=_dtype(row),
                # What is reshaped here is met in its inner shape; a model's in its outer one.
                dims=list(row.reshape.shape if row.HasField("reshape") else row.dims),
                batched=config.message.max_batch_size > 0,
                owner="the ensemble",
                makes=side == "input",
                line=config.line(side, number, "name"),
            )
    for number, step in _steps(config):
        model = config.context.models.get(step.model_name)
        if model is None:
            continue
        for side, names in (("input", step.input_map), ("output", step.output_map)):
            rows = {row.name: row for row in getattr(model.message, side)}
            for key in sorted(set(rows).intersection(names)):
                yield _End(
                    tensor=names[key],
                    dtype=_dtype(rows[key]),
                    dims=list(rows[key].dims),
                    batched=model.message.max_batch_size > 0,
                    owner=f"'{step.model_name}'",
                    makes=side == "output",
                    line=_line(config, number),
                )


def _meet(one: _End, other: _End) -> bool:
    """Return whether two declarations of one tensor agree, as the server compares them."""
    if one.dtype != other.dtype:
        return False
    full = [[-1, *end.dims] if end.batched else end.dims for end in (one, other)]
    return _alike(one.dims, other.dims) or _alike(*full)


def _alike(left: list[int], right: list[int]) -> bool:
    return len(left) == len(right) and all(
        -1 in (one, other) or one == other for one, other in zip(left, right, strict=True)
    )


def _shown(end: _End) -> str:
    return f"{end.dtype} {end.dims} of {end.owner}"


def _dtype(row: Any) -> str:
    return str(model_config_pb2.DataType.Name(row.data_type))


def _steps(config: ConfigFile) -> list[tuple[int, Any]]:
    return list(enumerate(config.message.ensemble_scheduling.step)) if config.is_ensemble else []


def _line(config: ConfigFile, number: int, *inside: str) -> int | None:
    return config.line("ensemble_scheduling", "step", number, *inside)


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="ensemble-step-unknown", level="error", check=_unknown_step),
    Rule(name="ensemble-version", level="error", check=_other_version),
    Rule(name="ensemble-batch-size", level="error", check=_large_batch),
    Rule(name="ensemble-step-tensors", level="error", check=_unknown_tensor),
    Rule(name="ensemble-tensors-differ", level="error", check=_differing),
    Rule(name="ensemble-output-missing", level="error", check=_not_produced),
    Rule(name="ensemble-input-missing", level="error", check=_not_fed),
    Rule(name="ensemble-tensor-twice", level="error", check=_made_twice),
    Rule(name="ensemble-cycle", level="error", check=_cycle),
)
