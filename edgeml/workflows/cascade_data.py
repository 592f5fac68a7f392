"""Labelled items for a cascade's curve: one part to choose by, another to report on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.bundle import Bundle
from edgeml.errors import DataError, InputError
from edgeml.workflows.checkpoint_data import check_unchanged
from edgeml.workflows.finding import load_texts
from edgeml.workflows.training_options import TEXT_TASK

_IMAGE_TASK = "image-classification"
# Items as they are in the data, before any model prepares them, and the names of their labels.
Part = tuple[list[Any], list[frozenset[str]]]


def labelled_parts(
    data: str | Path, bundle: Bundle, *, limit: int | None = None, seed: int = 0
) -> tuple[Part, Part]:
    """Return the samples to choose a threshold by, and those to report on.

    Args:
        data: A checkpoint, whose validation and test parts are taken; or labelled pictures or texts
            that neither model has learnt from, of which a drawn half is each part.
        bundle: Whose task and labels the data must have.
        limit: Largest number of samples of a part, drawn at random; None takes all.
        seed: Seed of the draws.

    Raises:
        InputError: The bundle is no classifier of pictures or texts, or the limit is below 1.
        DataError: The data is unfit, or of other classes.
    """
    manifest = bundle.manifest
    if manifest.task not in (_IMAGE_TASK, TEXT_TASK) or (limit is not None and limit < 1):
        raise InputError(
            f"the bundle's task is {manifest.task} and the limit {limit}; a classifier of pictures "
            "or texts, and at least 1, were expected",
            item=str(bundle.path),
        )
    items, targets, labels, parts = _opened(Path(data), str(data), manifest.task)
    foreign = [label for label in labels if label not in manifest.labels]
    if foreign:
        reason = (
            f"its class '{foreign[0]}' is none of the bundle's: {', '.join(manifest.labels)}; data "
            "of the bundle's classes was expected"
        )
        raise DataError(source=str(data), reason=reason)
    rng = np.random.default_rng(seed)
    if parts is None:
        drawn = rng.permutation(len(items))
        parts = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    first, second = (rng.permutation(part)[:limit] for part in parts)
    return _part(items, targets, labels, first), _part(items, targets, labels, second)


Opened = tuple[
    Any,  # a sequence, or an array of pictures
    npt.NDArray[Any],
    Sequence[str],
    tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None,
]


def _opened(path: Path, name: str, task: str) -> Opened:
    """Return items, targets, label names, and a checkpoint's two parts."""
    from edgeml.data.opening import open_image_data, reopen, reopen_text

    if not (path / "checkpoint.json").is_file():
        if task == TEXT_TASK:
            texts = load_texts(name)
            return texts.items, texts.targets, texts.labels, None
        pictures = open_image_data(name)
        return pictures.items, pictures.targets, pictures.labels, None
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(path)
    if read.task != task:
        raise InputError(f"the checkpoint is for {read.task}; one for {task} was expected")
    dataset = reopen_text(read.data) if task == TEXT_TASK else reopen(read.data)
    check_unchanged(read, dataset.fingerprint, name=dataset.name)
    parts = read.split["validation"], read.split["test"]
    return dataset.items, dataset.targets, dataset.labels, parts


def _part(
    items: Any,
    targets: npt.NDArray[Any],
    labels: Sequence[str],
    indices: npt.NDArray[np.int64],
) -> Part:
    names = []
    for index in indices:
        target = targets[index]
        held = np.flatnonzero(target) if target.ndim else [target]
        names.append(frozenset(labels[int(place)] for place in held))
    return [items[index] for index in indices], names
