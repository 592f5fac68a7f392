"""Fine-tuning of image classifiers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress
from edgeml.errors import InputError
from edgeml.runtime.host import check_threads
from edgeml.tasks.image import ImagePreprocessing

if TYPE_CHECKING:
    from torch import nn

    from edgeml.data.dataset import ImageDataset, Split
    from edgeml.training.backbones import Backbone
    from edgeml.training.checkpoint import Checkpoint
    from edgeml.training.loop import History
    from edgeml.training.settings import TrainingSettings

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_SIZE = 96


def finetune_images(
    *,
    data: str | Path,
    place: Path,
    model: str,
    image_size: int,
    weights: Literal["pretrained", "random"],
    settings: TrainingSettings,
    progress: Progress,
) -> tuple[float, History]:
    """Fine-tune an image classifier; see :func:`edgeml.workflows.training.finetune`.

    Returns:
        Validation accuracy of the epoch that was kept, and what happened.
    """
    if not 16 <= image_size <= 1024:
        raise InputError(f"the size is {image_size}; 16 to 1024 was expected", item="--image-size")
    from edgeml.data.dataset import make_split
    from edgeml.data.opening import open_image_data, place_of
    from edgeml.training import backbones
    from edgeml.training.checkpoint import check_checkpoint_place, write_checkpoint

    check_checkpoint_place(place)
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
    return float(checkpoint.training["accuracy"]), history


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
