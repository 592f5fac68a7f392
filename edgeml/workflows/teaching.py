"""A fine-tuned teacher's answers to the pictures that a student is trained on.

They are computed once, on the pictures as they are and at the teacher's own resolution, and blended
where the student's pictures are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.core.files import sha256_of
from edgeml.core.progress import Progress
from edgeml.errors import InputError
from edgeml.tasks.image import ImagePreprocessing

if TYPE_CHECKING:
    from edgeml.workflows.image_data import TrainingImages


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What a teacher answers.

    Attributes:
        model: The teacher's model.
        sha256: Hash of its weights.
        accuracy: Its accuracy on its own validation part.
        logits: float32 ``(samples, classes)`` for the training part, in its order.
    """

    model: str
    sha256: str
    accuracy: float
    logits: npt.NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint says of its teacher."""
        return {"model": self.model, "weights_sha256": self.sha256, "accuracy": self.accuracy}


def teach(checkpoint: Path, pictures: TrainingImages, progress: Progress) -> Taught:
    """Let a teacher answer the training part.

    Args:
        checkpoint: The teacher's.
        pictures: The student's data, prepared.
        progress: Told of each picture that is prepared for the teacher.

    Raises:
        InputError: It is no checkpoint of pictures, of other classes, or has seen pictures that the
            student is judged by.
        DataError: It is damaged.
    """
    from edgeml.data.opening import picture_hashes, prepare_images
    from edgeml.training.checkpoint import read_checkpoint
    from edgeml.training.evaluating import evaluate_logits
    from edgeml.training.image_history import LabelledImages, Normalisation

    read, network = read_checkpoint(checkpoint)
    dataset, split = pictures.dataset, pictures.split
    if read.task != "image-classification" or read.labels != dataset.labels:
        raise InputError(
            f"the teacher is for {read.task} with the classes {', '.join(read.labels)}; one for "
            f"pictures of {', '.join(dataset.labels)} was expected; fine-tune it on the same data",
            item=str(checkpoint),
        )
    contract = ImagePreprocessing.from_json(read.preprocessing)
    if read.data["fingerprint"] == dataset.fingerprint:
        # Both may choose their epoch by the same pictures.
        judged = np.concatenate([split.validation, split.test])
        seen = int(np.isin(judged, read.split["train"]).sum())
        seen += int(np.isin(split.test, read.split["validation"]).sum())
    else:
        held = prepare_images(dataset, split.test, contract, progress=progress)
        seen = int(np.isin(picture_hashes(held), read.seen).sum())
    if seen:
        raise InputError(
            f"the teacher has seen {seen} of the pictures that the student is judged by; none was "
            "expected; train it on the same data with the same seed and shares",
            item=str(checkpoint),
        )
    images = prepare_images(dataset, split.train, contract, progress=progress)
    logits = evaluate_logits(
        network,
        LabelledImages(images=images, targets=dataset.targets[split.train]),
        Normalisation(mean=contract.mean, std=contract.std),
    )
    return Taught(
        model=read.model,
        sha256=sha256_of(checkpoint / "model.safetensors"),
        accuracy=float(read.training["accuracy"]),
        logits=logits,
    )
