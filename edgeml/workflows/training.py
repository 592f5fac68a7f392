"""``edgeml.finetune``: data and a backbone in, a checkpoint out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, silent
from edgeml.core.signature import Tensors
from edgeml.errors import DataError, InputError
from edgeml.runtime.host import check_threads
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import INPUT, ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor

if TYPE_CHECKING:
    from torch import nn

    from edgeml.data.dataset import ImageDataset, Split
    from edgeml.training.backbones import Backbone
    from edgeml.training.checkpoint import Checkpoint
    from edgeml.training.loop import History
    from edgeml.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What :func:`finetune` made.

    Attributes:
        checkpoint: The folder.
        accuracy: Validation accuracy of the epoch that was kept.
        epochs: Epochs run.
        seconds: Wall time of the training.
    """

    checkpoint: Path
    accuracy: float
    epochs: int
    seconds: float

    def __fspath__(self) -> str:
        return str(self.checkpoint)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's JSON."""
        return {
            "checkpoint": str(self.checkpoint),
            "accuracy": self.accuracy,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }


def finetune(
    *,
    data: str | Path,
    out: str | Path,
    task: str = "image-classification",
    model: str = "efficientnet-lite0",
    image_size: int = 96,
    weights: Literal["pretrained", "random"] = "pretrained",
    settings: TrainingSettings | None = None,
    progress: Progress = silent,
) -> Finetuned:
    """Fine-tune a pretrained image classifier.

    The data is split into train, validation and test by class, seeded; a test split that the set
    itself defines is kept. The split is stored in the checkpoint, and ``export`` keeps to it.

    Args:
        data: A named set such as ``fashion-mnist``, or a folder ``class/xxx.png``.
        out: Folder of the checkpoint.
        task: ``image-classification``.
        model: Name of a backbone.
        image_size: Side of the square input, in pixels.
        weights: ``pretrained``, or ``random`` to start from nothing.
        settings: Epochs, rate, seed, threads and the rest.
        progress: Told at every step.

    Raises:
        InputError: An argument is wrong.
        DataError: The data is missing, damaged or unfit.
        MissingExtraError: The extra [train] is not installed.
    """
    if task != "image-classification":
        raise InputError(f"the task is '{task}'; image-classification was expected", item="--task")
    if not 16 <= image_size <= 1024:
        raise InputError(f"the size is {image_size}; 16 to 1024 was expected", item="--image-size")
    if weights not in ("pretrained", "random"):
        raise InputError(f"weights is {weights!r}; 'pretrained' or 'random' was expected")
    from edgeml.data.dataset import make_split
    from edgeml.data.opening import open_image_data, place_of
    from edgeml.training import backbones
    from edgeml.training.checkpoint import check_checkpoint_place, write_checkpoint
    from edgeml.training.settings import TrainingSettings

    place = Path(out)
    check_checkpoint_place(place)
    settings = settings or TrainingSettings()
    settings = replace(settings, num_threads=check_threads(settings.num_threads))
    backbone = backbones.find_backbone(model)
    dataset = open_image_data(data)
    split = make_split(dataset, seed=settings.seed)
    # One step an epoch at least, and batch normalisation needs more than one picture in it.
    batch_size = max(2, min(settings.batch_size, len(split.train)))
    job = _Job(
        backbone=backbone,
        weights=weights,
        place=place_of(data),
        dataset=dataset,
        split=split,
        preprocessing=ImagePreprocessing(
            height=image_size, width=image_size, mean=backbone.mean, std=backbone.std
        ),
        settings=replace(settings, batch_size=batch_size),
    )
    network = backbones.build(
        backbone, num_classes=len(dataset.labels), weights=weights, seed=settings.seed
    )
    history, seen = _train(network, job, progress)
    checkpoint = _describe(job, history, seen)
    write_checkpoint(place, checkpoint, network)
    return Finetuned(
        checkpoint=place,
        accuracy=checkpoint.training["accuracy"],
        epochs=len(history.epochs),
        seconds=history.seconds,
    )


def load_checkpoint(
    checkpoint: str | Path, *, num_threads: int | None = None, channels_last: bool = False
) -> TaskPredictor:
    """Load a checkpoint as a torch predictor: the yardstick beside the exported variants.

    Args:
        checkpoint: The folder that :func:`finetune` wrote.
        num_threads: Threads of torch, for the whole process; None takes what this machine allows.
        channels_last: Whether to use torch's faster memory layout instead of its default one.

    Raises:
        InputError: The folder is not a checkpoint, or ``num_threads`` is below 1.
        DataError: Its files are damaged.
    """
    threads = check_threads(num_threads)
    from edgeml.training.checkpoint import read_checkpoint
    from edgeml.training.engine import TorchEngine
    from edgeml.training.loop import Normalisation

    read, network = read_checkpoint(Path(checkpoint))
    preprocessing = ImagePreprocessing.from_json(read.preprocessing)
    task = ImageTask(preprocessing=preprocessing, labels=ClassLabels(names=read.labels))
    engine = TorchEngine(
        network,
        Normalisation(mean=preprocessing.mean, std=preprocessing.std),
        task.signature,
        num_threads=threads,
        channels_last=channels_last,
    )
    return TaskPredictor(task, engine)


def load_split(
    checkpoint: str | Path, *, part: str = "test", limit: int | None = None, seed: int = 0
) -> tuple[Tensors, npt.NDArray[np.int64]]:
    """Return part of a checkpoint's data as the model's tensors, with the right classes.

    Args:
        checkpoint: The folder that :func:`finetune` wrote; its data must still be there, unchanged.
        part: ``train``, ``validation`` or ``test``.
        limit: Largest number of samples, drawn at random; None takes all.
        seed: Seed of the draw.

    Returns:
        ``image``: uint8 ``(samples, height, width, 3)``; and int64 ``(samples,)`` class indices.

    Raises:
        InputError: The folder is not a checkpoint, or there is no such part.
        DataError: The data is missing or has changed.
    """
    from edgeml.data.opening import prepare_images, reopen
    from edgeml.training.checkpoint import read_checkpoint

    read, _ = read_checkpoint(Path(checkpoint))
    if part not in read.split:
        raise InputError(f"there is no part '{part}'; {', '.join(read.split)} were expected")
    dataset = reopen(read.data)
    if dataset.fingerprint != read.data["fingerprint"]:
        raise DataError(
            source=dataset.name, reason="the data has changed since training; restore or retrain"
        )
    indices = np.random.default_rng(seed).permutation(read.split[part])[:limit]
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


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One fine-tuning, resolved: nothing in it is a default any more."""

    backbone: Backbone
    weights: str
    place: dict[str, str]
    dataset: ImageDataset
    split: Split
    preprocessing: ImagePreprocessing
    settings: TrainingSettings


def _train(
    network: nn.Module, job: _Job, progress: Progress
) -> tuple[History, npt.NDArray[np.uint64]]:
    """Train in place; return the history, and hashes of the pictures seen."""
    from edgeml.data.opening import picture_hashes, prepare_images
    from edgeml.training import loop

    train, validation = (
        loop.LabelledImages(
            images=prepare_images(job.dataset, indices, job.preprocessing, progress=progress),
            targets=job.dataset.targets[indices],
        )
        for indices in (job.split.train, job.split.validation)
    )
    history = loop.train(
        network,
        train,
        validation,
        normalisation=loop.Normalisation(mean=job.preprocessing.mean, std=job.preprocessing.std),
        settings=job.settings,
        progress=progress,
    )
    seen = [picture_hashes(part.images) for part in (train, validation)]
    return history, np.unique(np.concatenate(seen))


def _describe(job: _Job, history: History, seen: npt.NDArray[np.uint64]) -> Checkpoint:
    from edgeml.training.checkpoint import Checkpoint

    split = job.split
    return Checkpoint(
        task="image-classification",
        model=job.backbone.name,
        labels=job.dataset.labels,
        preprocessing=job.preprocessing.to_json(),
        data={
            "place": job.place,
            "name": job.dataset.name,
            "fingerprint": job.dataset.fingerprint,
            "source": dict(job.dataset.source),
            "split": split.sizes(),
        },
        split={"train": split.train, "validation": split.validation, "test": split.test},
        seen=seen,
        training={
            "settings": job.settings.to_json(),
            "history": history.to_json(),
            "accuracy": history.epochs[history.best_epoch - 1]["validation_accuracy"],
        },
        provenance={
            "seed": job.settings.seed,
            "weights": job.weights,
            "weights_sha256": job.backbone.sha256 if job.weights == "pretrained" else None,
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, str]:
    import PIL
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
