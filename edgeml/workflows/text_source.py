"""A text checkpoint and its data, as the source of an export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent
from edgeml.data.dataset import Split, TextDataset, make_text_split, refuse_overlap
from edgeml.data.opening import NAMED_TEXT, open_text_data, reopen_text
from edgeml.errors import DataError, InputError
from edgeml.exporting.answers import Answers, Form, Reading, collect_answers
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.calibration_lint import lint_padding, lint_sample, refuse_random_ids
from edgeml.exporting.checks import INVARIANCE_TOLERANCE, INVARIANCE_TOLERANCE_MIXED
from edgeml.exporting.from_transformers import trace_text_model
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.samples import Samples, TextSamples
from edgeml.tasks.text import ATTENTION_MASK, TOKENIZER, TextPreprocessing, TextTask
from edgeml.training.checkpoint import Checkpoint, read_tokenizer
from edgeml.training.text_engine import TextTorchEngine
from edgeml.workflows.checkpoint_data import check_classes, describe_checkpoint, kept_split
from edgeml.workflows.sources import Indices, Source

if TYPE_CHECKING:
    import onnx
    from torch import nn

_INVARIANCE_SAMPLES = 48
_TABLE_OPTIONS = ("text_column", "label_column", "multi_label_separator")
# Texts that the torch module answers at once: activations of long ones are large.
_REFERENCE_BATCH = 8


def open_text_source(
    folder: Path,
    checkpoint: Checkpoint,
    network: nn.Module,
    data: str | Path | None,
    *,
    seed: int,
    progress: Progress,
) -> Source:
    """Put a text checkpoint and the data to prove it on together.

    Args:
        folder: Where the checkpoint lies.
        checkpoint: What was trained.
        network: Its module.
        data: Data to prove on; None takes what it was trained on.
        seed: Seed of the split of foreign data.
        progress: Told while texts are prepared, the model is traced and quantized.

    Raises:
        DataError: The data is missing, has changed, or has other classes.
    """
    dataset = reopen_text(checkpoint.data) if data is None else _open_alike(data, checkpoint)
    return text_source_of(
        checkpoint,
        network,
        dataset,
        tokenizer=read_tokenizer(folder),
        given=data is not None,
        seed=seed,
        progress=progress,
    )


def text_source_of(
    checkpoint: Checkpoint,
    network: nn.Module,
    dataset: TextDataset,
    *,
    tokenizer: bytes,
    given: bool,
    seed: int,
    progress: Progress,
) -> Source:
    """Put a text classifier and opened data together.

    Args:
        checkpoint: What was trained, or a description of what somebody else trained.
        network: Its module.
        dataset: Data to prove on.
        tokenizer: Contents of ``tokenizer.json``, truncation and padding fixed.
        given: Whether the caller named the data, rather than the checkpoint.
        seed: Seed of the split of foreign data.
        progress: Told of each step.

    Raises:
        DataError: The data has changed, or has other classes.
    """
    check_classes(checkpoint, dataset.labels, name=dataset.name)
    split = kept_split(checkpoint, dataset.fingerprint, name=dataset.name, given=given)
    foreign = split is None
    multi_label = bool(checkpoint.training["multi_label"])
    task = TextTask(
        TextPreprocessing.from_json(checkpoint.preprocessing),
        ClassLabels(names=checkpoint.labels, multi_label=multi_label),
        tokenizer,
    )
    split = split or make_text_split(dataset, seed=seed)
    job = _TextJob(checkpoint, network, task, dataset, split, progress)
    return Source(
        task_name=checkpoint.task,
        task=task,
        assembly=Assembly(
            frame="text",
            signature=task.signature,
            temperature=job.temperature,
            multi_label=multi_label,
        ),
        reading=job.reading,
        preprocessing=task.preprocessing.to_json(),
        labels=checkpoint.labels,
        items=dataset.items,
        targets=dataset.targets,
        split=split,
        data_name=dataset.name,
        fingerprint=dataset.fingerprint,
        foreign=foreign,
        provenance={**describe_checkpoint(checkpoint), "temperature": job.temperature},
        prepare=job.prepare,
        refuse_seen=job.refuse_seen,
        make_core=job.make_core,
        lint=job.lint,
        reference=job.reference,
        encode=lambda item: (str(item).encode(), ".txt"),
        describe=_described,
        files={TOKENIZER: tokenizer},
        invariance_samples=_INVARIANCE_SAMPLES,
        invariance_tolerance={
            "fp32": INVARIANCE_TOLERANCE,
            **dict.fromkeys(("fp16", "bf16", "int8", "int4"), INVARIANCE_TOLERANCE_MIXED),
        },
    )


def _open_alike(data: str | Path, checkpoint: Checkpoint) -> TextDataset:
    """Open data as the checkpoint's own was: its columns, several labels a text or one."""
    if isinstance(data, str) and data in NAMED_TEXT:
        return open_text_data(data)
    place = checkpoint.data["place"]
    options = {name: place[name] for name in _TABLE_OPTIONS if name in place}
    return open_text_data(data, **options)


class _TextJob:
    """What the parts of a text source share."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: nn.Module,
        task: TextTask,
        dataset: TextDataset,
        split: Split,
        progress: Progress,
    ) -> None:
        self.checkpoint = checkpoint
        self.split = split
        self.network = network
        self.task = task
        self.dataset = dataset
        self.progress = progress
        self.temperature = float(checkpoint.training["temperature"])
        form: Form = "independent" if task.labels.multi_label else "probabilities"
        self.reading = Reading(form=form)

    def prepare(self, indices: Indices) -> TextSamples:
        texts = []
        for done, index in enumerate(indices, start=1):
            try:
                texts.append(self.task.prepare(self.dataset.items[index]))
            except InputError as exc:
                reason = f"row {index} cannot be used ({exc}); mend or remove it"
                raise DataError(source=self.dataset.name, reason=reason) from exc
            if done % 1000 == 0 or done == len(indices):
                event = ProgressEvent(stage="prepare texts", done=done, total=len(indices))
                self.progress(event)
        return TextSamples(self.task, texts)

    def refuse_seen(self, parts: Sequence[Samples]) -> None:
        """Refuse data that overlaps what the checkpoint was trained on, with the count."""
        del parts  # ids alone do not tell which text they were
        held = np.concatenate([self.split.validation, self.split.test]).tolist()
        refuse_overlap(
            self.dataset.name, (self.dataset.items[index] for index in held), self.checkpoint.seen
        )

    def make_core(self) -> onnx.ModelProto:
        self.progress(ProgressEvent(stage="trace", done=0, total=1, note="torch to ONNX"))
        core = trace_text_model(self.network)
        self.progress(ProgressEvent(stage="trace", done=1, total=1))
        return core

    def lint(self, calibration: Samples, indices: Indices) -> list[dict[str, Any]]:
        """Look for what makes a calibration sample a bad one."""
        assert isinstance(calibration, TextSamples)
        refuse_random_ids([text.ids for text in calibration.texts], source=self.dataset.name)
        targets = None if self.task.labels.multi_label else self.dataset.targets[indices]
        masks = [calibration.feed([place])[ATTENTION_MASK] for place in range(len(calibration))]
        findings = [
            *lint_sample(targets, self.dataset.labels, num_samples=len(calibration)),
            *lint_padding([np.asarray(mask) for mask in masks]),
        ]
        return [finding.to_json() for finding in findings]

    def reference(self, samples: Samples, num_threads: int) -> Answers:
        engine = TextTorchEngine(
            self.network,
            self.task.signature,
            temperature=self.temperature,
            multi_label=self.task.labels.multi_label,
            num_threads=num_threads,
        )
        return collect_answers(engine, samples, self.reading, batch=_REFERENCE_BATCH)


def _described(samples: Samples) -> dict[str, npt.NDArray[Any]]:
    assert isinstance(samples, TextSamples)
    most = samples.task.preprocessing.max_length
    return {
        "length": np.array([len(text.ids) / most for text in samples.texts]),
        "truncated": np.array([float(text.truncated) for text in samples.texts]),
    }
