"""Rules about folders and files: what a server looks for before it reads any value."""

from __future__ import annotations

from collections.abc import Iterator

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.graphs import Graph
from edgeml.serving.lint.reading import CONFIGS, is_version
from edgeml.serving.lint.subjects import ConfigFile, Model
from edgeml.serving.repository.candidates import marked_for
from edgeml.serving.repository.config import DEFAULT_CONFIG, PYTHON
from edgeml.serving.repository.samples import WARMUP

_OWN_FOLDERS = (CONFIGS, WARMUP)
_ARTEFACTS = ("*.onnx", "model.py")


def _missing_config(model: Model) -> Iterator[Fault]:
    if not (model.folder / DEFAULT_CONFIG).is_file():
        yield Fault(
            message=f"the model's folder has no {DEFAULT_CONFIG}; one was expected, or the server "
            "guesses; publish the bundle again",
            file=model.folder.name,
        )


def _unreadable_config(model: Model) -> Iterator[Fault]:
    for row in model.unreadable:
        yield Fault(
            message=f"this is not a model configuration ({row.reason}); protobuf text of "
            "ModelConfig was expected; correct it or publish the bundle again",
            file=row.file,
            line=row.line,
        )


def _other_name(config: ConfigFile) -> Iterator[Fault]:
    name, folder = config.message.name, config.folder.name
    if name and name != folder:
        yield Fault(
            message=f"the configuration is of '{name}' and the folder is '{folder}'; the same name "
            "was expected; rename one of them",
            line=config.line("name"),
        )


def _no_version_folder(model: Model) -> Iterator[Fault]:
    if model.present:
        return
    found = next((path for name in _ARTEFACTS for path in sorted(model.folder.rglob(name))), None)
    if found:
        name = found.relative_to(model.folder).as_posix()
        yield Fault(
            message=f"'{name}' lies in no version's folder; a "
            "folder with a number for a name, such as 1, was expected; move it there",
            file=model.main_file,
        )


def _version_not_there(config: ConfigFile) -> Iterator[Fault]:
    for version in config.named_versions if config.present else ():
        if version not in config.present:
            yield Fault(
                message=f"the version policy names version {version}; the folders are "
                f"{', '.join(map(str, config.present))}; publish it, or name one that is there",
                line=config.line("version_policy"),
            )


def _not_a_version(model: Model) -> Iterator[Fault]:
    for path in sorted(path for path in model.folder.iterdir() if path.is_dir()):
        if is_version(path.name) or path.name in _OWN_FOLDERS or path.name.startswith("."):
            continue
        yield Fault(
            message=f"the folder '{path.name}' is no version, and a server passes it over; a "
            "whole number from 1 was expected; rename or remove it",
            file=f"{model.folder.name}/{path.name}",
        )


def _not_built(model: Model) -> Iterator[Fault]:
    if not model.present and not any(_no_version_folder(model)):
        yield Fault(
            message="no version of this model is built here, so rules about its files were passed "
            "over; publish a bundle to build it",
            file=model.main_file,
        )


def _left_candidate(model: Model) -> Iterator[Fault]:
    of = marked_for(model.folder)
    if of is not None:
        yield Fault(
            message=f"this is a candidate: a version of '{of}' that is being checked, or that an "
            f"interrupted publish left; nobody asks for it; publish or roll back '{of}' to remove "
            "it",
            file=model.main_file,
        )


def _missing_artefact(config: ConfigFile) -> Iterator[Fault]:
    for version in config.served_versions:
        for name in config.artefact_names:
            if not (config.folder / str(version) / name).exists():
                yield Fault(
                    message=f"version {version} has no '{name}'; the configuration names it; "
                    "publish the bundle again",
                    line=_line_of_file(config, name),
                )


def _unreadable_artefact(config: ConfigFile) -> Iterator[Fault]:
    for name, path in config.artefacts() if config.is_onnx else ():
        graph = config.context.graphs.read(path)
        if not isinstance(graph, Graph):
            yield Fault(
                message=f"'{name}' is not an ONNX model, or a damaged one ({graph}); a complete "
                ".onnx file was expected; publish the bundle again",
                line=_line_of_file(config, name.partition("/")[2]),
            )


def _missing_backend(config: ConfigFile) -> Iterator[Fault]:
    if config.message.backend or config.message.platform:
        return
    yield Fault(
        message="the configuration names no backend, and a server infers one from files named "
        f'model.onnx or model.py alone; backend: "onnxruntime" or "{PYTHON}" was expected; '
        "write it",
    )


def _line_of_file(config: ConfigFile, name: str) -> int | None:
    if config.message.default_model_filename == name:
        return config.line("default_model_filename")
    key = next((key for key, file in config.gpu_files.items() if file == name), "")
    return config.fields.line_of_key("cc_model_filenames", key)


MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule(name="config-missing", level="error", check=_missing_config),
    Rule(name="config-unreadable", level="error", check=_unreadable_config),
    Rule(name="version-folder-missing", level="error", check=_no_version_folder),
    Rule(name="folder-not-a-version", level="warning", check=_not_a_version),
    Rule(name="candidate-left", level="warning", check=_left_candidate),
    Rule(name="artefact-not-built", level="note", strict_level="error", check=_not_built),
)
CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="name-differs", level="error", check=_other_name),
    Rule(name="backend-missing", level="error", check=_missing_backend),
    Rule(name="version-not-there", level="error", check=_version_not_there),
    Rule(name="artefact-missing", level="error", check=_missing_artefact),
    Rule(name="artefact-unreadable", level="error", check=_unreadable_artefact),
)
