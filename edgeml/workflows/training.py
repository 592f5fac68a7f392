"""``edgeml.finetune``: data and a pretrained model in, a checkpoint out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeml._optional import require
from edgeml.core.progress import Progress, silent
from edgeml.errors import InputError
from edgeml.workflows.training_options import (
    IMAGE_TASK,
    RECOMMENDATION_TASK,
    TEXT_TASK,
    check_options,
    of_kind,
)

if TYPE_CHECKING:
    from edgeml.training.settings import TrainingSettings
    from edgeml.training.text_settings import TextTrainingSettings
    from edgeml.workflows.recommendation_settings import RecommenderSettings
    from edgeml.workflows.training_images import ImageOptions


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What :func:`finetune` made.

    Attributes:
        checkpoint: The folder.
        accuracy: Validation accuracy of the epoch that was kept; of a recommender NDCG@10, end to
            end.
        epochs: Epochs run.
        seconds: Wall time of the training.
        metrics: What a recommender reached on its test part; None for the others.
    """

    checkpoint: Path
    accuracy: float
    epochs: int
    seconds: float
    metrics: Mapping[str, Any] | None = None

    def __fspath__(self) -> str:
        return str(self.checkpoint)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's JSON."""
        value = {
            "checkpoint": str(self.checkpoint),
            "accuracy": self.accuracy,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        return value if self.metrics is None else {**value, "metrics": dict(self.metrics)}


def finetune(
    *,
    data: str | Path,
    out: str | Path,
    task: str = IMAGE_TASK,
    model: str | None = None,
    image_size: int | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    settings: TrainingSettings | TextTrainingSettings | RecommenderSettings | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    options: ImageOptions | None = None,
    schema: str | Path | None = None,
    progress: Progress = silent,
) -> Finetuned:
    """Fine-tune a pretrained image or text classifier, or train a recommender on a log.

    The data is split into train, validation and test by class, seeded; parts that the set itself
    defines are kept. The split is stored in the checkpoint, and ``export`` keeps to it. The
    unfinished training lies in ``<out>.partial`` after each epoch. A checkpoint of pictures has a
    ``report.html``.

    Args:
        data: A named set such as ``fashion-mnist`` or ``sst2``; a folder ``class/xxx.png`` or a
            table of files and labels; a table of texts and labels; or a log of interactions.
        out: Folder of the checkpoint.
        task: ``image-classification``, ``text-classification`` or ``recommendation``.
        model: For images ``efficientnet-lite0``, ``-lite1``, ``-lite2``, ``resnet-18``, or
            ``package.module:factory`` of a module of your own; for texts ``minilm-l6``; for both a
            folder in the hub's layout, or a hub id. None takes the first of each.
        image_size: Side of the square input, in pixels; None takes a hub model's own, or 96. Images
            only.
        weights: ``pretrained``, or ``random`` to start from nothing.
        settings: Epochs, rate, seed, threads and the rest: TrainingSettings for images,
            TextTrainingSettings for texts, RecommenderSettings for logs. None chooses for images
            by the size of the data.
        text_column: Column of the texts in a table; None looks for it. Texts only.
        label_column: Column of the labels, likewise.
        multi_label_separator: What separates several labels of one text; None: one each. Texts
            only.
        resume: Whether to go on with an unfinished training from its last epoch. Where there is
            none, it begins, and a checkpoint of the same training is kept as it is; either is told
            by a warning.
        overrides: Fields of TrainingSettings by name that replace the ones chosen by the size of
            the data. Images only, without ``settings``.
        options: Groups, leaks, unreadable pictures, shares of the parts, profile. Images only.
        schema: ``schema.yaml``: what the columns of a log mean. Recommenders only.
        progress: Told at every step.

    Raises:
        InputError: An argument is wrong, or is for another task.
        DataError: The data is missing, damaged or unfit, or a model hub cannot be reached.
        HostError: The package that carries a text encoder is not installed.
        MissingExtraError: The extra [train], or [hf] for texts, is not installed.
    """
    columns = {
        "text_column": text_column,
        "label_column": label_column,
        "multi_label_separator": multi_label_separator,
    }
    images = {"image_size": image_size, "overrides": overrides, "options": options}
    check_options(task, images=images, texts=columns, logs={"schema": schema})
    if weights not in ("pretrained", "random"):
        raise InputError(f"weights is {weights!r}; 'pretrained' or 'random' was expected")
    if task == RECOMMENDATION_TASK:
        if resume:
            raise InputError(
                f"an interrupted training of a {task} cannot go on; leave resume out",
                item="--resume",
            )
        if model is not None:
            raise InputError(
                f"a {task} has no model by name; leave it out and give settings instead",
                item="--model",
            )
        return _finetune_recommender(data, schema, Path(out), settings, progress)
    if task == TEXT_TASK:
        from edgeml.training.text_settings import TextTrainingSettings
        from edgeml.workflows.training_text import DEFAULT_MODEL, finetune_text

        accuracy, history = finetune_text(
            data=data,
            out=Path(out),
            model=model or DEFAULT_MODEL,
            weights=weights,
            settings=of_kind(settings, TextTrainingSettings, task),
            resume=resume,
            progress=progress,
            **columns,
        )
        return Finetuned(
            checkpoint=Path(out),
            accuracy=accuracy,
            epochs=history.epochs,
            seconds=history.seconds,
        )
    from edgeml.training.settings import TrainingSettings
    from edgeml.workflows import training_images

    accuracy, made = training_images.finetune_images(
        data=data,
        place=Path(out),
        model=model or training_images.DEFAULT_MODEL,
        image_size=image_size,
        weights=weights,
        settings=of_kind(settings, TrainingSettings, task),
        overrides=overrides or {},
        options=options or training_images.ImageOptions(),
        resume=resume,
        progress=progress,
    )
    return Finetuned(
        checkpoint=Path(out), accuracy=accuracy, epochs=len(made.epochs), seconds=made.seconds
    )


def _finetune_recommender(
    data: str | Path, schema: str | Path | None, out: Path, settings: object, progress: Progress
) -> Finetuned:
    require("faiss", extra="recommend")
    require("torch", extra="train")
    from edgeml.workflows.recommendation_checkpoint import plain
    from edgeml.workflows.recommendation_settings import RecommenderSettings
    from edgeml.workflows.recommendation_training import finetune_recommender

    made = finetune_recommender(
        data=data,
        schema=schema,
        out=out,
        settings=of_kind(settings, RecommenderSettings, RECOMMENDATION_TASK)
        or RecommenderSettings(),
        progress=progress,
    )
    return Finetuned(
        checkpoint=out,
        accuracy=made.second.validation_ndcg,
        epochs=math.ceil(made.second.ranker.epochs),
        seconds=made.seconds,
        metrics=plain(made.evaluation.metrics),
    )
