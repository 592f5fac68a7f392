"""Which kind of source a name stands for, decided before anything heavy is imported."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgeml._optional import require
from edgeml.core.progress import Progress
from edgeml.errors import InputError
from edgeml.workflows.exporting import ExportSettings
from edgeml.workflows.sources import Source

_CHECKPOINT = "checkpoint.json"
# ``package.module:factory``.
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def open_source(
    source: str | Path, data: str | Path | None, settings: ExportSettings, progress: Progress
) -> Source:
    """Open a source of an export.

    Args:
        source: An ``.onnx`` file, ``package.module:factory``, a model in the hub's layout or its
            id, or a checkpoint folder.
        data: Data to prove on, or None.
        settings: Seed, and how outputs are read.
        progress: Told of each step.

    Raises:
        InputError: It is none of these, or unusable.
        DataError: The data is unfit.
        MissingExtraError: The extra that the source needs is not installed.
    """
    path = Path(source)
    if path.suffix == ".onnx":
        from edgeml.workflows.tensor_source import open_onnx_source

        return open_onnx_source(path, data, settings, progress)
    if _FACTORY.fullmatch(str(source)) and not path.exists():
        require("torch", extra="train")
        from edgeml.workflows.factory_source import open_factory_source

        return open_factory_source(str(source), data, settings, progress)
    if not (path / _CHECKPOINT).is_file() and looks_like_hub(source):
        require("torch", extra="hf")
        require("transformers", extra="hf")
        if _is_image_model(source):
            from edgeml.workflows.hugging_face_image_source import open_hugging_face_image_source

            return open_hugging_face_image_source(
                str(source), data, seed=settings.seed, progress=progress
            )
        from edgeml.workflows.hugging_face_source import open_hugging_face_source

        return open_hugging_face_source(str(source), data, seed=settings.seed, progress=progress)
    if path.is_file():
        raise InputError(
            "this file is no source of an export; an .onnx file, a checkpoint folder, a model "
            "folder of Hugging Face or package.module:factory was expected; give one of these",
            item=str(source),
        )
    return _open_checkpoint(path, data, settings, progress)


def _open_checkpoint(
    path: Path, data: str | Path | None, settings: ExportSettings, progress: Progress
) -> Source:
    require("torch", extra="train")
    from edgeml.training.checkpoint import read_checkpoint

    checkpoint, network = read_checkpoint(path)
    seed = settings.seed
    if checkpoint.task == "text-classification":
        from edgeml.workflows.text_source import open_text_source

        return open_text_source(path, checkpoint, network, data, seed=seed, progress=progress)
    from edgeml.workflows.image_source import open_image_source

    return open_image_source(checkpoint, network, data, seed=seed, progress=progress)


def looks_like_hub(source: str | Path) -> bool:
    """Return whether a source is a folder in the hub's layout, or is no path and may be a hub id.

    ``name`` alone could be a mistyped folder as well: a hub id has an owner here.
    """
    path = Path(source)
    if path.exists():
        return (path / "config.json").is_file()
    # Where the first part is a folder here, the second is a mistyped name in it.
    return (
        re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(source)) is not None and not path.parent.exists()
    )


def _is_image_model(source: str | Path) -> bool:
    """Return whether a model folder, or the hub's model of this id, classifies images."""
    folder = Path(source)
    if not folder.exists():
        from edgeml.training.hub import download_encoder

        folder, _ = download_encoder(str(source), weights=False, needed=("config.json",))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError):
        return False
    return any(name.endswith("ForImageClassification") for name in names)
