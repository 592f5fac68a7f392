"""Read a repository for the linter: every configuration of every model, once."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from edgeml.errors import InputError
from edgeml.serving.lint.locating import Fields
from edgeml.serving.lint.subjects import ConfigFile, Context, Model, Unreadable
from edgeml.serving.repository.config import DEFAULT_CONFIG

CONFIGS = "configs"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


def read_models(root: Path, context: Context) -> list[Model]:
    """Read every model of a repository, and put their configurations into the context.

    Args:
        root: The repository.
        context: What all rules share; its ``models`` are filled.

    Raises:
        InputError: The repository is not a folder, has no models, or is itself one.
    """
    if not root.is_dir():
        raise _no_repository(root, "this is not a folder")
    if (root / DEFAULT_CONFIG).is_file():
        raise _no_repository(root, "this is one model's folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [path for path in folders if not path.name.startswith(".")]
    if not folders:
        raise _no_repository(root, "this folder has no models")
    models = [_read_model(folder, context) for folder in folders]
    for model in models:
        main = (config for config in model.configs if config.file == model.main_file)
        context.models[model.folder.name] = next(main, None)
    return models


def is_version(name: str) -> bool:
    """Return whether Triton takes a folder of this name for a version."""
    return _VERSION.fullmatch(name) is not None


def _no_repository(root: Path, what: str) -> InputError:
    return InputError(
        f"{what}; a model repository, a folder of models' folders, was expected; publish a bundle "
        "into it first, or name the folder above",
        item=str(root),
    )


def _read_model(folder: Path, context: Context) -> Model:
    versions = (path.name for path in folder.iterdir() if path.is_dir())
    present = tuple(sorted(int(name) for name in versions if is_version(name)))
    paths = [folder / DEFAULT_CONFIG, *sorted((folder / CONFIGS).glob("*.pbtxt"))]
    paths = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    read = [_read_config(path, folder, present, context) for path in paths]
    return Model(
        folder=folder,
        configs=tuple(row for row in read if isinstance(row, ConfigFile)),
        unreadable=tuple(row for row in read if isinstance(row, Unreadable)),
        present=present,
        context=context,
    )


def _read_config(
    path: Path, folder: Path, present: tuple[int, ...], context: Context
) -> ConfigFile | Unreadable:
    file = path.relative_to(folder.parent).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
        message = text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as exc:
        return Unreadable(file=file, line=exc.GetLine(), reason=str(exc))
    except (OSError, UnicodeDecodeError) as exc:
        return Unreadable(file=file, line=None, reason=str(exc))
    return ConfigFile(
        file=file,
        folder=folder,
        message=message,
        fields=Fields(text),
        present=present,
        context=context,
    )
