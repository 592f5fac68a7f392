"""An image checkpoint and its data, as the source of an export."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent
from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.data.opening import open_image_data, picture_hashes, prepare_images, reopen
from edgeml.errors import DataError
from edgeml.exporting.answers import Answers, Reading, read_outputs
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.from_torch import trace_image_model
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import INPUT, ImagePreprocessing, ImageTask
from edgeml.tasks.samples import ArraySamples, Samples
from edgeml.training.checkpoint import Checkpoint
from edgeml.training.engine import TorchEngine
from edgeml.training.image_history import Normalisation
from edgeml.workflows.checkpoint_data import check_classes, describe_checkpoint, kept_split
from edgeml.workflows.sources import Indices, Source

if TYPE_CHECKING:
    import onnx
    from torch import nn


def open_image_source(
    checkpoint: Checkpoint,
    network: nn.Module,
    data: str | Path | None,
    *,
    seed: int,
    progress: Progress,
) -> Source:
    """Put an image checkpoint and the data to prove it on together.

    Args:
        checkpoint: What was trained.
        network: Its module.
        data: Data to prove on; None takes what it was trained on.
        seed: Seed of the split of foreign data.
        progress: Told while pictures are prepared, the model is traced and quantized.

    Raises:
        DataError: The data is missing, has changed, or has other classes.
    """
    dataset = open_image_data(data) if data is not None else reopen(checkpoint.data)
    return image_source_of(
        checkpoint, network, dataset, given=data is not None, seed=seed, progress=progress
    )


def image_source_of(
    checkpoint: Checkpoint,
    network: nn.Module,
    dataset: ImageDataset,
    *,
    given: bool,
    seed: int,
    progress: Progress,
    foreign_split: Split | None = None,
) -> Source:
    """Put an image classifier and opened data together.

    Args:
        checkpoint: What was trained, or a description of what somebody else trained.
        network: Its module.
        dataset: Data to prove on.
        given: Whether the caller named the data, rather than the checkpoint.
        seed: Seed of the split of foreign data.
        progress: Told while pictures are prepared, the model is traced and quantized.
        foreign_split: The split of foreign data, where it is made already.

    Raises:
        DataError: The data has changed, or has other classes.
    """
    check_classes(checkpoint, dataset.labels, name=dataset.name)
    split = kept_split(checkpoint, dataset.fingerprint, name=dataset.name, given=given)
    task = ImageTask(
        preprocessing=ImagePreprocessing.from_json(checkpoint.preprocessing),
        labels=ClassLabels(names=checkpoint.labels),
    )
    job = _ImageJob(checkpoint, network, task, dataset, progress)
    return Source(
        task_name=checkpoint.task,
        task=task,
        assembly=Assembly(
            frame="image",
            signature=task.signature,
            preprocessing=task.preprocessing.to_json(),
            temperature=job.temperature,
        ),
        reading=Reading(),
        preprocessing=task.preprocessing.to_json(),
        labels=checkpoint.labels,
        items=dataset.items,
        targets=dataset.targets,
        split=split or foreign_split or make_split(dataset, seed=seed),
        data_name=dataset.name,
        fingerprint=dataset.fingerprint,
        foreign=split is None,
        provenance=describe_checkpoint(checkpoint),
        prepare=job.prepare,
        refuse_seen=job.refuse_seen,
        make_core=job.make_core,
        reference=job.reference,
        encode=_encoded,
        describe=_described,
    )


class _ImageJob:
    """What the parts of an image source share."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: nn.Module,
        task: ImageTask,
        dataset: ImageDataset,
        progress: Progress,
    ) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.task = task
        self.dataset = dataset
        self.progress = progress
        self.temperature = float(checkpoint.training.get("temperature", 1.0))

    def prepare(self, indices: Indices) -> ArraySamples:
        images = prepare_images(
            self.dataset, indices, self.task.preprocessing, progress=self.progress
        )
        return ArraySamples(INPUT, images)

    def refuse_seen(self, parts: Sequence[Samples]) -> None:
        """Refuse data that overlaps what the checkpoint was trained on, with the count."""
        arrays = [part.array for part in parts if isinstance(part, ArraySamples)]
        hashes = np.concatenate([picture_hashes(array) for array in arrays])
        seen = int(np.isin(hashes, self.checkpoint.seen).sum())
        if seen:
            reason = (
                f"{seen} of {len(hashes)} pictures to prove on were in the checkpoint's training "
                "data; none was expected; remove them"
            )
            raise DataError(source=self.dataset.name, reason=reason)

    def make_core(self) -> onnx.ModelProto:
        contract = self.task.preprocessing
        self.progress(ProgressEvent(stage="trace", done=0, total=1, note="torch to ONNX"))
        core = trace_image_model(self.network, height=contract.height, width=contract.width)
        self.progress(ProgressEvent(stage="trace", done=1, total=1))
        return core

    def reference(self, samples: Samples, num_threads: int) -> Answers:
        contract = self.task.preprocessing
        engine = TorchEngine(
            self.network,
            Normalisation(mean=contract.mean, std=contract.std),
            self.task.signature,
            num_threads=num_threads,
            temperature=self.temperature,
        )
        return read_outputs(engine.run(samples.feed(range(len(samples)))), Reading())


def _encoded(item: Any) -> tuple[bytes, str]:
    """Return an item as the bytes of a picture file, and the file's suffix."""
    if isinstance(item, Path):
        return item.read_bytes(), item.suffix.lower()
    if isinstance(item, bytes):
        return item, ".jpg" if item.startswith(b"\xff\xd8") else ".png"
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(item).save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def _described(samples: Samples) -> dict[str, npt.NDArray[Any]]:
    assert isinstance(samples, ArraySamples)
    images = samples.array
    # One picture at a time: numpy would make a float copy of all of them.
    return {
        "brightness": np.array([image.mean() / 255 for image in images]),
        "contrast": np.array([image.std() / 128 for image in images]),
    }
