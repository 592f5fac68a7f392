"""What rules look at: models, and their configurations with the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from edgeml.errors import InputError
from edgeml.serving.lint.graphs import Graph, GraphReader
from edgeml.serving.lint.locating import Fields
from edgeml.serving.lint.targets import Target
from edgeml.serving.repository.config import DEFAULT_CONFIG, ENSEMBLE, PYTHON
from edgeml.serving.repository.contract import PARAMETER, decode_contract

_ONNX_PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all rules share in one lint.

    Attributes:
        target: The container that the repository is for.
        graphs: Reads ONNX files.
        models: Every model's name to its ``config.pbtxt``; None where that cannot be read.
    """

    target: Target
    graphs: GraphReader
    models: dict[str, ConfigFile | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A configuration that cannot be parsed.

    Attributes:
        file: Its path in the repository.
        line: Where the parser stopped, or None.
        reason: What it said.
    """

    file: str
    line: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """One configuration of a model.

    Attributes:
        file: Its path in the repository.
        folder: The model's folder.
        message: The parsed ``ModelConfig``.
        fields: Where its fields stand in the text.
        present: Numbers of the model's version folders, rising.
        context: What all rules share.
    """

    file: str
    folder: Path
    message: Any
    fields: Fields
    present: tuple[int, ...]
    context: Context

    @property
    def is_ensemble(self) -> bool:
        """Whether it runs other models."""
        return ENSEMBLE in (self.message.platform, self.message.backend)

    @property
    def is_onnx(self) -> bool:
        """Whether it serves ONNX files; a configuration that names no backend is taken for one."""
        if self.message.backend:
            return bool(self.message.backend == "onnxruntime")
        return self.message.platform in ("", _ONNX_PLATFORM)

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of its instances; a group without one, or no group at all, is ``KIND_AUTO``."""
        names = model_config_pb2.ModelInstanceGroup.Kind
        groups = self.message.instance_group
        return frozenset(names.Name(row.kind) for row in groups) or frozenset({"KIND_AUTO"})

    @property
    def may_use_gpu(self) -> bool:
        """Whether an instance may be placed on a GPU."""
        return not self.kinds.isdisjoint({"KIND_AUTO", "KIND_GPU"})

    @property
    def may_use_cpu(self) -> bool:
        """Whether an instance may be placed on a CPU."""
        return not self.kinds.isdisjoint({"KIND_AUTO", "KIND_CPU"})

    @property
    def named_versions(self) -> tuple[int, ...]:
        """Versions that the policy names, there or not."""
        return tuple(self.message.version_policy.specific.versions)

    @property
    def served_versions(self) -> tuple[int, ...]:
        """Versions that are there and that the policy serves."""
        policy = self.message.version_policy
        choice = policy.WhichOneof("policy_choice")
        if choice == "specific":
            return tuple(version for version in self.present if version in self.named_versions)
        if choice == "all":
            return self.present
        return self.present[-max(1, policy.latest.num_versions) :]

    @property
    def artefact_names(self) -> tuple[str, ...]:
        """Every file of a version that it may open, each once."""
        if self.is_ensemble:
            return ()
        first = "model.py" if self.message.backend == PYTHON else "model.onnx"
        if not (self.is_onnx or self.message.backend == PYTHON):
            first = ""
        names = (self.message.default_model_filename or first, *self.gpu_files.values())
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def gpu_files(self) -> dict[str, str]:
        """Compute capability to file, sorted."""
        return dict(sorted(self.message.cc_model_filenames.items()))

    def artefacts(self) -> Iterator[tuple[str, Path]]:
        """Yield the files that it may open and that are there: name in the model, and path."""
        for version in self.served_versions:
            for name in self.artefact_names:
                path = self.folder / str(version) / name
                if path.is_dir():
                    path /= "model.onnx"
                if path.is_file():
                    yield f"{version}/{name}", path

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """Yield the ONNX files among them that can be read: name in the model, and graph."""
        for name, path in self.artefacts() if self.is_onnx else ():
            graph = self.context.graphs.read(path)
            if isinstance(graph, Graph):
                yield name, graph

    @property
    def contract_text(self) -> str:
        """The parameter ``edgeml_contract``, or an empty text."""
        return self.parameter(PARAMETER) or ""

    def contract(self) -> Mapping[str, Any] | None:
        """Return the decoded contract; None where there is none that can be read."""
        try:
            return decode_contract(self.contract_text) if self.contract_text else None
        except InputError:
            return None

    def parameter(self, key: str) -> str | None:
        """Return a parameter's text, or None."""
        if key not in self.message.parameters:
            return None
        return str(self.message.parameters[key].string_value)

    def line(self, *path: str | int) -> int | None:
        """Return the line of a field; see :meth:`Fields.line`."""
        return self.fields.line(*path)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One folder of the repository.

    Attributes:
        folder: The folder.
        configs: Its configurations, ``config.pbtxt`` first.
        unreadable: Those that cannot be parsed.
        present: Numbers of its version folders, rising.
        context: What all rules share.
    """

    folder: Path
    configs: tuple[ConfigFile, ...]
    unreadable: tuple[Unreadable, ...]
    present: tuple[int, ...]
    context: Context

    @property
    def main_file(self) -> str:
        """Path of its ``config.pbtxt`` in the repository, there or not."""
        return f"{self.folder.name}/{DEFAULT_CONFIG}"
