"""Fine-tuning of image classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import InputError
from edgeml.runtime.host import check_threads
from edgeml.workflows.image_contracts import ContractedModel, check_image_size, contract_model
from edgeml.workflows.image_data import TrainingImages, open_training_images
from edgeml.workflows.image_findings import brief
from edgeml.workflows.teaching import Taught, teach

if TYPE_CHECKING:
    from edgeml.training.checkpoint import Checkpoint
    from edgeml.training.image_history import History, LabelledImages
    from edgeml.training.image_models import ImageModel
    from edgeml.training.settings import TrainingSettings
    from edgeml.training.unfinished import Saving

DEFAULT_MODEL = "efficientnet-lite0"
# So many training pictures are answered, unchanged, for the verdict on overfitting.
_FIT_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What a fine-tuning of images may be told besides data, model and settings.

    Attributes:
        groups: Table of the pictures that must stay together, or None.
        allow_leaks: Whether parts that share pictures are reported, not refused.
        skip_unreadable: Whether pictures that cannot be read are left out, not refused.
        profile: Whether to measure where the time of a step goes.
        teacher: Checkpoint of a larger model, or one of larger pictures, fine-tuned on the same
            classes: its answers are learnt from as well. None has no teacher.
        validation_share: Share of the pictures to choose an epoch by.
        test_share: Share of the pictures to report on; None takes the same.
        per_class: Pictures of each class to learn from, a fifth of them to choose an epoch by; the
            test part is left as it is. None takes all.
    """

    groups: Path | None = None
    allow_leaks: bool = False
    skip_unreadable: bool = False
    profile: bool = False
    teacher: Path | None = None
    validation_share: float = 1 / 12
    test_share: float | None = None
    per_class: int | None = None

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 0.5:
                raise InputError(f"{name} is {value}; above 0 and below 0.5 was expected")
        if self.per_class is not None and self.per_class < 2:
            raise InputError(f"per_class is {self.per_class}; at least 2 was expected")


def finetune_images(
    *,
    data: str | Path,
    place: Path,
    model: str,
    image_size: int | None,
    weights: Literal["pretrained", "random"],
    settings: TrainingSettings | None,
    overrides: Mapping[str, Any],
    options: ImageOptions,
    resume: bool,
    progress: Progress,
) -> tuple[float, History]:
    """Fine-tune an image classifier; see :func:`edgeml.workflows.training.finetune`.

    Returns:
        Validation accuracy of the epoch that was kept, and what happened.
    """
    check_image_size(image_size)
    from edgeml.training import unfinished
    from edgeml.training.automatic import automatic_settings
    from edgeml.training.checkpoint import check_checkpoint_place, write_checkpoint
    from edgeml.training.image_models import find_image_model
    from edgeml.workflows.training_report import training_page

    automatic_settings(1, overrides)  # a setting out of its range is told before data is read
    check_checkpoint_place(place)
    going_on = unfinished.look_for_state(place, resume=resume)
    found = find_image_model(model, weights=weights)
    pictures = open_training_images(data, options.groups)
    seed = _seed(settings, overrides)
    contracted = contract_model(found, pictures.dataset, image_size=image_size, seed=seed)
    pictures = pictures.prepared(
        contracted.preprocessing,
        seed=seed,
        allow_leaks=options.allow_leaks,
        skip_unreadable=options.skip_unreadable,
        shares=(options.validation_share, options.test_share),
        progress=progress,
    ).fewer(options.per_class, seed=seed, progress=progress)
    resolved, size = _resolved(settings, overrides, found, contracted, pictures)
    job = _Job(model=found, contracted=contracted, pictures=pictures, settings=resolved, size=size)
    if options.teacher is not None:
        job = replace(job, taught=teach(options.teacher, pictures, progress))
    identity, state = job.identity(), unfinished.state_place(place)
    if resume and not going_on:
        from edgeml.training.image_history import History

        if done := unfinished.finished_history(place, identity):
            return History(**done).accuracy, History(**done)
    saving = unfinished.Saving(place=state, identity=identity, resume=going_on)
    history, report = _train(job, saving, profile=options.profile, progress=progress)
    checkpoint = _describe(job, history, report)
    page = training_page(checkpoint).encode()
    write_checkpoint(place, checkpoint, contracted.network, files={"report.html": page})
    unfinished.remove_state(state)
    return history.accuracy, history


def _seed(settings: TrainingSettings | None, overrides: Mapping[str, Any]) -> int:
    return int(overrides.get("seed", 0) if settings is None else settings.seed)


def _resolved(
    settings: TrainingSettings | None,
    overrides: Mapping[str, Any],
    model: ImageModel,
    contracted: ContractedModel,
    pictures: TrainingImages,
) -> tuple[TrainingSettings, str]:
    """Return settings in which nothing is a default any more, and where they came from."""
    from edgeml.training.automatic import automatic_settings, has_dropout_of_its_head, rate_for

    samples, size = len(pictures.split.train), "the caller's"
    pretrained = model.weights != "random"
    if settings is None:
        settings, size = automatic_settings(samples, overrides, pretrained=pretrained)
        if "dropout" not in overrides and not has_dropout_of_its_head(contracted.network):
            settings = replace(settings, dropout=None)
    elif overrides:
        raise InputError("settings and overrides were both given; one was expected")
    rate = settings.learning_rate
    if rate is None:
        rate = rate_for(contracted.network, where=model.where, pretrained=pretrained)
    return replace(
        settings,
        learning_rate=rate,
        num_threads=check_threads(settings.num_threads),
        batch_size=min(settings.batch_size, samples),  # one step an epoch at least
    ), size


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One fine-tuning, resolved: nothing in it is a default any more."""

    model: ImageModel
    contracted: ContractedModel
    pictures: TrainingImages
    settings: TrainingSettings
    size: str
    taught: Taught | None = None

    def identity(self) -> dict[str, Any]:
        """Return what a resumed training must have in common with this one.

        The number of threads may differ: only the last bits of the weights depend on it.
        """
        settings = self.settings.to_json()
        del settings["num_threads"]
        return {
            **settings,
            "data": self.pictures.dataset.fingerprint,
            "split": self.pictures.split_hash(),
            "model": self.model.name,
            "weights": self.model.sha256 or self.model.weights,
            "preprocessing": self.contracted.preprocessing.to_json(),
            "teacher": None if self.taught is None else self.taught.sha256,
        }

    def part(self, indices: npt.NDArray[np.int64]) -> LabelledImages:
        """Return part of the pictures, which are all prepared."""
        from edgeml.training.image_history import LabelledImages

        return LabelledImages(
            images=self.pictures.images,
            targets=self.pictures.dataset.targets[indices],
            rows=self.pictures.rows_of(indices),
        )


def _train(
    job: _Job, saving: Saving, *, profile: bool, progress: Progress
) -> tuple[History, dict[str, Any]]:
    """Train in place; return the history, and the report on the validation part."""
    from edgeml.training import loop
    from edgeml.training.compute import Compute
    from edgeml.training.evaluating import evaluate_logits
    from edgeml.training.image_history import Normalisation
    from edgeml.training.image_optimizing import head_of
    from edgeml.training.image_report import image_report
    from edgeml.training.profiling import profile_steps

    network, split, labels = job.contracted.network, job.pictures.split, job.pictures.dataset.labels
    preprocessing = job.contracted.preprocessing
    normalisation = Normalisation(mean=preprocessing.mean, std=preprocessing.std)
    train, validation = job.part(split.train), job.part(split.validation)
    if job.taught is not None:
        train = replace(train, taught=job.taught.logits)
    history = loop.train(
        network,
        train,
        validation,
        normalisation=normalisation,
        settings=job.settings,
        head=head_of(network, len(labels)),
        saving=saving,
        progress=progress,
    )
    some = np.random.default_rng(0).permutation(split.train)[:_FIT_SAMPLES]
    seen = job.part(np.sort(some))
    report = image_report(
        evaluate_logits(network, validation, normalisation),
        validation,
        training=(evaluate_logits(network, seen, normalisation), seen.targets),
        labels=labels,
        names=[job.pictures.name_of(index) for index in split.validation.tolist()],
        history=history,
    )
    if profile:
        progress(ProgressEvent(stage="profile", done=0, total=1))
        used = Compute(bf16=history.compute["bf16"], channels_last=history.compute["channels_last"])
        report["profile"] = profile_steps(
            network, train, normalisation=normalisation, settings=job.settings, compute=used
        )
    return history, report


def _describe(job: _Job, history: History, report: dict[str, Any]) -> Checkpoint:
    from edgeml.data.opening import picture_hashes
    from edgeml.training.checkpoint import Checkpoint

    pictures, split, model = job.pictures, job.pictures.split, job.model
    used = np.concatenate([split.train, split.validation])
    return Checkpoint(
        task="image-classification",
        model=model.name,
        labels=pictures.dataset.labels,
        preprocessing=job.contracted.preprocessing.to_json(),
        data={
            "place": pictures.place,
            "name": pictures.dataset.name,
            "fingerprint": pictures.dataset.fingerprint,
            "source": dict(pictures.dataset.source),
            "split": split.sizes(),
            "findings": brief(pictures.findings),
        },
        split={"train": split.train, "validation": split.validation, "test": split.test},
        seen=np.unique(picture_hashes(pictures.images, pictures.rows_of(used))),
        training={
            "settings": job.settings.to_json(),
            "settings_for": job.size,
            "identity": job.identity(),
            "history": history.to_json(),
            "accuracy": history.accuracy,
            "temperature": report["temperature"],
            "report": report,
        },
        provenance={
            "seed": job.settings.seed,
            "weights": model.weights,
            "weights_sha256": model.sha256,
            "teacher": None if job.taught is None else job.taught.to_json(),
            "backbone": {
                "where": model.where,
                "licence": model.licence,
                "revision": model.revision,
                "processor_difference_levels": job.contracted.processor_difference,
            },
            "versions": _versions(),
        },
        architecture=model.architecture,
    )


def _versions() -> dict[str, str]:
    import PIL
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
