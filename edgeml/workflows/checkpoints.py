"""What reads a checkpoint beside an export: a predictor, its data, its training's report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.runtime.host import check_threads
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import INPUT, ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor
from edgeml.workflows.checkpoint_data import check_unchanged
from edgeml.workflows.finding import Texts
from edgeml.workflows.training_options import TEXT_TASK

if TYPE_CHECKING:
    from edgeml.training.checkpoint import Checkpoint


def load_checkpoint(
    checkpoint: str | Path, *, num_threads: int | None = None, channels_last: bool = False
) -> TaskPredictor:
    """Load a checkpoint as a torch predictor: the yardstick beside the exported variants.

    Args:
        checkpoint: The folder that :func:`finetune` wrote.
        num_threads: Threads of torch, for the whole process; None takes what this machine allows.
        channels_last: Whether to use torch's faster memory layout instead of its default one;
            images only.

    Raises:
        InputError: The folder is not a checkpoint, or ``num_threads`` is below 1.
        DataError: Its files are damaged.
    """
    threads = check_threads(num_threads)
    from edgeml.training.checkpoint import read_checkpoint
    from edgeml.training.engine import TorchEngine
    from edgeml.training.image_history import Normalisation

    read, network = read_checkpoint(Path(checkpoint))
    if read.task == TEXT_TASK:
        from edgeml.workflows.training_text import text_predictor

        if channels_last:
            raise InputError(f"channels_last is for images; the checkpoint is for {TEXT_TASK}")
        return text_predictor(read, network, Path(checkpoint), num_threads=threads)
    preprocessing = ImagePreprocessing.from_json(read.preprocessing)
    task = ImageTask(preprocessing=preprocessing, labels=ClassLabels(names=read.labels))
    engine = TorchEngine(
        network,
        Normalisation(mean=preprocessing.mean, std=preprocessing.std),
        task.signature,
        num_threads=threads,
        channels_last=channels_last,
        temperature=float(read.training.get("temperature", 1.0)),
    )
    return TaskPredictor(task, engine)


def load_split(
    checkpoint: str | Path, *, part: str = "test", limit: int | None = None, seed: int = 0
) -> tuple[Tensors, npt.NDArray[Any]]:
    """Return part of a checkpoint's data as the model's tensors, with the right classes.

    Args:
        checkpoint: The folder that :func:`finetune` wrote; its data must still be there, unchanged.
        part: ``train``, ``validation`` or ``test``.
        limit: Largest number of samples, drawn at random; None takes all.
        seed: Seed of the draw.

    Returns:
        ``image``: uint8 ``(samples, height, width, 3)``, or int64 ``(samples, sequence)`` each,
        padded to the longest text; and int64 ``(samples,)`` class indices, or bool ``(samples,
        classes)`` where a text may have several labels.

    Raises:
        InputError: The folder is not a checkpoint, or there is no such part.
        DataError: The data is missing or has changed.
    """
    from edgeml.data.opening import prepare_images, reopen
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(Path(checkpoint))
    indices = np.random.default_rng(seed).permutation(_part(read, part))[:limit]
    if read.task == TEXT_TASK:
        from edgeml.workflows.training_text import text_part

        return text_part(read, Path(checkpoint), indices)
    dataset = reopen(read.data)
    check_unchanged(read, dataset.fingerprint, name=dataset.name)
    images = prepare_images(dataset, indices, ImagePreprocessing.from_json(read.preprocessing))
    return {INPUT: images}, dataset.targets[indices]


def training_curve(checkpoint: str | Path) -> list[tuple[float, float]]:
    """Return a checkpoint's smoothed training loss as pairs of step and loss.

    Raises:
        InputError: The folder is not a checkpoint.
        DataError: Its files are damaged.
    """
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(Path(checkpoint))
    return [(row["step"], row["train_loss"]) for row in read.training["history"]["curve"]]


def load_items(checkpoint: str | Path, *, part: str = "test") -> Texts:
    """Return the texts of one part of a text checkpoint's data.

    Args:
        checkpoint: The folder that :func:`finetune` wrote; its data must still be there, unchanged.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        InputError: The folder is not a text checkpoint, or there is no such part.
        DataError: The data is missing or has changed.
    """
    from edgeml.data.opening import reopen_text
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(Path(checkpoint))
    indices = _part(read, part)
    if read.task != TEXT_TASK:
        raise InputError(f"the checkpoint is for {read.task}; {TEXT_TASK} was expected")
    dataset = reopen_text(read.data)
    check_unchanged(read, dataset.fingerprint, name=dataset.name)
    return Texts(
        items=tuple(dataset.items[index] for index in indices),
        targets=dataset.targets[indices],
        labels=dataset.labels,
    )


def training_report(checkpoint: str | Path) -> dict[str, Any]:
    """Return what a checkpoint's training noted about its validation part.

    Accuracy, macro F1, confusions, each class, calibration and temperature, hardest errors; for
    texts the effect of truncation, for pictures the verdict on overfitting. Empty where the
    training noted nothing.

    Raises:
        InputError: The folder is not a checkpoint.
        DataError: Its files are damaged.
    """
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(Path(checkpoint))
    return dict(read.training.get("report", {}))


def _part(read: Checkpoint, part: str) -> npt.NDArray[np.int64]:
    if part not in read.split:
        raise InputError(f"there is no part '{part}'; {', '.join(read.split)} were expected")
    return read.split[part]
