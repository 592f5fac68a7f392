"""A checkpoint: a folder with weights, their input contract, and the split they saw."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from edgeml._optional import require
from edgeml.core.files import check_place, sha256_of, staged_folder, write_json
from edgeml.errors import DataError, InputError
from edgeml.tasks.text import TOKENIZER
from edgeml.training.image_models import rebuild_image_model

if TYPE_CHECKING:
    from edgeml.training.text_files import SavedTokenizer

TEXT = "text-classification"
FILE = "checkpoint.json"
SCHEMA_VERSION = 1
_WEIGHTS = "model.safetensors"
_SPLIT = "split.npz"
_TEXT_FILES = ("config.json", _WEIGHTS, TOKENIZER, "tokenizer_config.json")
_PARTS = ("train", "validation", "test")
_DAMAGE = (
    *(AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError),
    *(SafetensorError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Attributes:
        task: ``image-classification`` or ``text-classification``.
        model: Name of the backbone or encoder.
        labels: Class names in index order.
        preprocessing: The input contract, as JSON values.
        data: Name, fingerprint and source of the data.
        split: Part to int64 indices into the data.
        seen: uint64 hashes of the samples that training and the choice of an epoch have seen.
        training: Settings, history and accuracy.
        provenance: Seed, weights, library versions.
        architecture: How to build an image classifier's network again, as JSON values; empty for a
            packaged backbone and for texts.
    """

    task: str
    model: str
    labels: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    data: Mapping[str, Any]
    split: Mapping[str, npt.NDArray[np.int64]]
    seen: npt.NDArray[np.uint64]
    training: Mapping[str, Any]
    provenance: Mapping[str, Any]
    architecture: Mapping[str, Any] = field(default_factory=dict)


def check_checkpoint_place(place: Path) -> None:
    """Refuse to overwrite anything that is not a checkpoint; called before training, too.

    Raises:
        InputError: ``place`` exists and is neither an empty folder nor a checkpoint, or cannot be
            made.
    """
    check_place(place, marker=FILE, kind="checkpoint")


def write_checkpoint(
    place: Path,
    checkpoint: Checkpoint,
    model: nn.Module,
    *,
    tokenizer: SavedTokenizer | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        place: Its folder.
        checkpoint: What it says of itself.
        model: Its network.
        tokenizer: A text classifier's; its folder is one in the hub's layout, too.
        files: Further files by name, such as a report for people.

    Raises:
        InputError: ``place`` exists and is not a checkpoint.
    """
    check_checkpoint_place(place)
    with staged_folder(place) as folder:
        hashed: tuple[str, ...] = (_WEIGHTS,)
        if tokenizer is None:
            # Clones: safetensors refuses tensors that share memory, as tied weights do.
            state = {
                name: value.detach().clone(memory_format=torch.contiguous_format)
                for name, value in model.state_dict().items()
            }
            save_file(state, folder / _WEIGHTS)
        else:
            from edgeml.training.text_files import save_classifier

            hashed = save_classifier(
                model, folder, tokenizer, labels=checkpoint.labels, name=checkpoint.model
            )
        arrays: dict[str, Any] = {part: checkpoint.split[part] for part in _PARTS}
        np.savez(folder / _SPLIT, seen=checkpoint.seen, **arrays)
        value = {
            "schema_version": SCHEMA_VERSION,
            "task": checkpoint.task,
            "model": checkpoint.model,
            "labels": list(checkpoint.labels),
            "preprocessing": dict(checkpoint.preprocessing),
            "data": dict(checkpoint.data),
            "training": dict(checkpoint.training),
            "provenance": dict(checkpoint.provenance),
            "architecture": dict(checkpoint.architecture),
            "files": {name: sha256_of(folder / name) for name in (*hashed, _SPLIT)},
        }
        for name, contents in (files or {}).items():
            (folder / name).write_bytes(contents)
        write_json(folder / FILE, value)


def read_checkpoint(path: Path) -> tuple[Checkpoint, nn.Module]:
    """Read a checkpoint and rebuild its model, in evaluation mode.

    Raises:
        InputError: ``path`` is not a checkpoint.
        DataError: It is one, and its files are damaged.
        MissingExtraError: It is a text classifier, or an image classifier of a hub, and the extra
            [hf] is not installed.
    """
    try:
        value = _described(path)
        files = _TEXT_FILES if value["task"] == TEXT else (_WEIGHTS,)
        for name in (*files, _SPLIT):
            _check_file(path, value, name)
        # From memory: numpy leaves a damaged file open.
        data = io.BytesIO((path / _SPLIT).read_bytes())
        with np.load(data, allow_pickle=False) as archive:
            split = {part: archive[part].astype(np.int64) for part in _PARTS}
            seen = archive["seen"].astype(np.uint64)
        checkpoint = Checkpoint(
            task=value["task"],
            model=value["model"],
            labels=tuple(value["labels"]),
            preprocessing=value["preprocessing"],
            data=value["data"],
            split=split,
            seen=seen,
            training=value["training"],
            provenance=value["provenance"],
            architecture=value.get("architecture") or {},
        )
        model = _network(path, checkpoint)
    except _DAMAGE as exc:
        if isinstance(exc, InputError):
            raise
        raise _damaged(path, exc) from exc
    model.eval()
    return checkpoint, model


def read_tokenizer(path: Path) -> bytes:
    """Return the contents of ``tokenizer.json`` of a text classifier's checkpoint.

    Raises:
        InputError: ``path`` is not a checkpoint, or not of a text classifier.
        DataError: It is one, and the file is damaged.
    """
    try:
        value = _described(path)
        if value["task"] != TEXT:
            raise InputError(
                f"this checkpoint is for {value['task']} and has no {TOKENIZER}; one for {TEXT} "
                "was expected",
                item=str(path),
            )
        _check_file(path, value, TOKENIZER)
        return (path / TOKENIZER).read_bytes()
    except _DAMAGE as exc:
        if isinstance(exc, InputError):
            raise
        raise _damaged(path, exc) from exc


def _described(path: Path) -> Any:
    if not (path / FILE).is_file():
        raise InputError(
            f"this is not a checkpoint: it has no {FILE}; 'edgeml finetune' makes one",
            item=str(path),
        )
    value = json.loads((path / FILE).read_bytes())
    if value["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version {value['schema_version']}, expected {SCHEMA_VERSION}")
    return value


def _check_file(path: Path, value: Any, name: str) -> None:
    if sha256_of(path / name) != value["files"][name]:
        raise ValueError(f"{name} has changed since it was written")


def _network(path: Path, checkpoint: Checkpoint) -> nn.Module:
    if checkpoint.task == TEXT:
        require("transformers", extra="hf")
        from edgeml.training.text_files import load_classifier

        return load_classifier(path, num_labels=len(checkpoint.labels))
    model = rebuild_image_model(
        checkpoint.model, checkpoint.architecture, num_classes=len(checkpoint.labels)
    )
    model.load_state_dict(load_file(path / _WEIGHTS))
    return model


def _damaged(path: Path, exc: Exception) -> DataError:
    reason = f"the checkpoint is damaged ({type(exc).__name__}: {exc}); train it again"
    return DataError(source=str(path), reason=reason.replace("\n", " "))
