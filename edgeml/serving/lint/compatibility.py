"""Rules about the ONNX Runtime that will open the files: opset, format and operators."""

from __future__ import annotations

from collections.abc import Iterator

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.graphs import Graph
from edgeml.serving.lint.subjects import ConfigFile, Model
from edgeml.serving.lint.targets import Target


def _opset(model: Model) -> Iterator[Fault]:
    for config, name, graph in _files(model):
        target = model.context.target
        if graph.opset > target.runtime.opset:
            yield Fault(
                message=f"'{name}' is of opset {graph.opset}; {_whose(target)} reads up to "
                f"{target.runtime.opset}; export with an older opset, or name a newer --target",
                file=config.file,
            )


def _ir_version(model: Model) -> Iterator[Fault]:
    for config, name, graph in _files(model):
        target = model.context.target
        if graph.ir_version > target.runtime.ir_version:
            yield Fault(
                message=f"'{name}' is of IR version {graph.ir_version}; {_whose(target)} reads up "
                f"to {target.runtime.ir_version}; export again, or name a newer --target",
                file=config.file,
            )


def _contrib(model: Model) -> Iterator[Fault]:
    for config, name, graph in _files(model):
        target = model.context.target
        if unknown := [name for name in graph.contrib if name not in target.contrib]:
            yield Fault(
                message=f"'{name}' uses com.microsoft {', '.join(unknown)}, which {_whose(target)} "
                "is not known to have; older operators were expected; try it there, or export "
                "without them",
                file=config.file,
            )


def _domains(model: Model) -> Iterator[Fault]:
    for config, name, graph in _files(model):
        if graph.domains and not config.message.model_operations.op_library_filename:
            yield Fault(
                message=f"'{name}' uses operators of {', '.join(graph.domains)}, which ONNX "
                "Runtime does not have; model_operations with their library was expected; write it",
                file=config.file,
            )


def _files(model: Model) -> Iterator[tuple[ConfigFile, str, Graph]]:
    """Yield each file once, with the first configuration that names it."""
    seen: set[str] = set()
    for config in model.configs:
        for name, graph in config.graphs():
            if name not in seen:
                seen.add(name)
                yield config, name, graph


def _whose(target: Target) -> str:
    return f"ONNX Runtime {target.runtime.version} of container {target.tag}"


MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule(name="opset-too-new", level="error", check=_opset),
    Rule(name="ir-version-too-new", level="error", check=_ir_version),
    Rule(name="contrib-operator-unknown", level="warning", check=_contrib),
    Rule(name="operator-domain-unknown", level="warning", check=_domains),
)
