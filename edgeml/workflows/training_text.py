"""Fine-tuning of text classifiers, and what reads their checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml._optional import require
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.core.signature import Tensors
from edgeml.errors import DataError, InputError
from edgeml.runtime.host import check_threads
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.predictor import TaskPredictor
from edgeml.tasks.text import EncodedText, TextPreprocessing, TextTask, fix_tokenizer
from edgeml.workflows.training_options import TEXT_TASK

if TYPE_CHECKING:
    from torch import nn

    from edgeml.data.dataset import Split, TextDataset
    from edgeml.training.checkpoint import Checkpoint
    from edgeml.training.encoders import Encoder
    from edgeml.training.text_files import SavedTokenizer
    from edgeml.training.text_history import LabelledTexts, TextHistory
    from edgeml.training.text_settings import TextTrainingSettings

DEFAULT_MODEL = "minilm-l6"
_NAMED_TEXTS = 3


def finetune_text(
    *,
    data: str | Path,
    out: Path,
    model: str = DEFAULT_MODEL,
    weights: Literal["pretrained", "random"] = "pretrained",
    settings: TextTrainingSettings | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[float, TextHistory]:
    """Fine-tune a text classifier; see :func:`edgeml.workflows.training.finetune`.

    Weights are chosen on the validation part alone; the test part is not read.

    Returns:
        Validation accuracy of the weights that were kept, and what happened.
    """
    require("transformers", extra="hf")
    from edgeml.data.dataset import make_text_split
    from edgeml.data.opening import open_text_data, text_place_of
    from edgeml.training import encoders, unfinished
    from edgeml.training.checkpoint import check_checkpoint_place, write_checkpoint
    from edgeml.training.text_settings import TextTrainingSettings

    check_checkpoint_place(out)
    going_on = unfinished.look_for_state(out, resume=resume)
    settings = settings or TextTrainingSettings()
    settings = replace(settings, num_threads=check_threads(settings.num_threads))
    encoder = encoders.find_encoder(model, weights=weights)
    task_tokenizer = fixed_tokenizer(encoder, settings.max_length)
    options: dict[str, str | None] = {
        "text_column": text_column,
        "label_column": label_column,
        "multi_label_separator": multi_label_separator,
    }
    dataset = open_text_data(data, **options)
    job = _Job(
        encoder=encoder,
        weights=weights,
        place=text_place_of(data, **options),
        dataset=dataset,
        split=make_text_split(dataset, seed=settings.seed),
        preprocessing=task_tokenizer[0],
        tokenizer=task_tokenizer[1],
        settings=settings,
    )
    if resume and not going_on:
        from edgeml.training.text_history import TextHistory

        if done := unfinished.finished_history(out, job.identity()):
            return TextHistory(**done).accuracy, TextHistory(**done)
    network = encoders.build_classifier(
        encoder,
        num_labels=len(dataset.labels),
        multi_label=dataset.multi_label,
        weights=weights,
        dropout=settings.dropout,
        seed=settings.seed,
    )
    history, report = _train(
        network, job, unfinished.state_place(out), resume=going_on, progress=progress
    )
    write_checkpoint(out, _describe(job, history, report), network, tokenizer=job.tokenizer)
    unfinished.remove_state(unfinished.state_place(out))
    return history.accuracy, history


def text_predictor(
    checkpoint: Checkpoint, network: nn.Module, folder: Path, *, num_threads: int
) -> TaskPredictor:
    """Return a text checkpoint as a torch predictor.

    Args:
        checkpoint: What was read.
        network: Its module.
        folder: Where from.
        num_threads: Threads of torch, for the whole process.
    """
    from edgeml.training.text_engine import TextTorchEngine

    task = _task(checkpoint, folder)
    engine = TextTorchEngine(
        network,
        task.signature,
        temperature=float(checkpoint.training["temperature"]),
        multi_label=bool(checkpoint.training["multi_label"]),
        num_threads=num_threads,
    )
    return TaskPredictor(task, engine)


def text_part(
    checkpoint: Checkpoint, folder: Path, indices: npt.NDArray[np.int64]
) -> tuple[Tensors, npt.NDArray[Any]]:
    """Return texts of a checkpoint's data as the model's tensors, with the right answers.

    Args:
        checkpoint: What was read.
        folder: Where from.
        indices: int64 ``(samples,)``, which texts, in which order.

    Returns:
        int64 ``(samples, sequence)`` each, padded to the longest; and int64 ``(samples,)`` class
        indices, or bool ``(samples, classes)``.

    Raises:
        DataError: The data is missing or has changed.
    """
    from edgeml.data.opening import reopen_text

    dataset = reopen_text(checkpoint.data)
    if dataset.fingerprint != checkpoint.data["fingerprint"]:
        raise DataError(
            source=dataset.name, reason="the data has changed since training; restore or retrain"
        )
    task = _task(checkpoint, folder)
    return task.collate(_encode(task, dataset, indices, silent)), dataset.targets[indices]


def _task(checkpoint: Checkpoint, folder: Path) -> TextTask:
    from edgeml.training.checkpoint import read_tokenizer

    labels = ClassLabels(
        names=checkpoint.labels, multi_label=bool(checkpoint.training["multi_label"])
    )
    preprocessing = TextPreprocessing.from_json(checkpoint.preprocessing)
    return TextTask(preprocessing, labels, read_tokenizer(folder))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One fine-tuning, resolved: nothing in it is a default any more."""

    encoder: Encoder
    weights: str
    place: Mapping[str, str]
    dataset: TextDataset
    split: Split
    preprocessing: TextPreprocessing
    tokenizer: SavedTokenizer
    settings: TextTrainingSettings

    def identity(self) -> dict[str, Any]:
        """Return what a resumed training must have in common with this one.

        The number of threads may differ: only the last bits of the weights depend on it.
        """
        settings = self.settings.to_json()
        del settings["num_threads"]
        return {
            **settings,
            "data": self.dataset.fingerprint,
            "weights": self.encoder.sha256 if self.weights == "pretrained" else self.weights,
            "model": self.encoder.name,
            "tokenizer": self.preprocessing.tokenizer_sha256,
        }


def fixed_tokenizer(encoder: Encoder, max_length: int) -> tuple[TextPreprocessing, SavedTokenizer]:
    """Return an encoder's contract, and its tokenizer with truncation and padding fixed.

    Raises:
        InputError: The encoder takes fewer tokens, has no fast tokenizer, or one of another model.
    """
    from edgeml.training import encoders
    from edgeml.training.text_architectures import max_positions, model_inputs
    from edgeml.training.text_files import SavedTokenizer

    config = encoders.read_config(encoder)
    if max_length > max_positions(config):
        raise InputError(
            f"max_length is {max_length}; the model '{encoder.name}' takes at most "
            f"{max_positions(config)} tokens; choose a smaller one",
            item="--max-length",
        )
    published = encoders.tokenizer_bytes(encoder)
    pad_id = encoders.pad_id(encoder, published)
    contents = fix_tokenizer(published, max_length=max_length, pad_id=pad_id)
    encoders.check_vocabulary(encoder, contents)
    inputs = model_inputs(config)
    preprocessing = TextPreprocessing(
        max_length=max_length,
        inputs=inputs,
        pad_id=pad_id,
        tokenizer_sha256=hashlib.sha256(contents).hexdigest(),
    )
    saved = SavedTokenizer(
        contents=contents,
        special_tokens=encoders.special_tokens(encoder),
        inputs=inputs,
        max_length=max_length,
    )
    return preprocessing, saved


def _encode(
    task: TextTask, dataset: TextDataset, indices: npt.NDArray[np.int64], progress: Progress
) -> list[EncodedText]:
    """Turn texts into ids; unusable ones are counted, and the first are named."""
    rows: list[EncodedText] = []
    bad: list[str] = []
    for done, index in enumerate(indices.tolist(), start=1):
        try:
            rows.append(task.prepare(dataset.items[index]))
        except InputError as exc:
            bad.append(f"row {index}: {exc}")
        if done % 1000 == 0 or done == len(indices):
            progress(ProgressEvent(stage="prepare texts", done=done, total=len(indices)))
    if bad:
        more = f" (and {len(bad) - _NAMED_TEXTS} more)" if len(bad) > _NAMED_TEXTS else ""
        reason = (
            f"{len(bad)} of {len(indices)} texts cannot be used: "
            f"{' | '.join(bad[:_NAMED_TEXTS])}{more}; mend or remove them"
        )
        raise DataError(source=dataset.name, reason=reason)
    return rows


def _train(
    network: nn.Module, job: _Job, state: Path, *, resume: bool, progress: Progress
) -> tuple[TextHistory, dict[str, Any]]:
    """Train in place; return the history, and the report on the validation part."""
    from edgeml.training.text_history import LabelledTexts
    from edgeml.training.text_loop import evaluate_logits, train_text
    from edgeml.training.text_report import text_report
    from edgeml.training.unfinished import Saving

    dataset, labels = job.dataset, job.dataset.labels
    task = TextTask(job.preprocessing, ClassLabels(names=labels), job.tokenizer.contents)

    def part(indices: npt.NDArray[np.int64]) -> LabelledTexts:
        return LabelledTexts(
            rows=_encode(task, dataset, indices, progress),
            targets=dataset.targets[indices],
            num_classes=len(labels),
        )

    train, validation = part(job.split.train), part(job.split.validation)
    history = train_text(
        network,
        train,
        validation,
        collate=task.collate,
        settings=job.settings,
        saving=Saving(place=state, identity=job.identity(), resume=resume),
        progress=progress,
    )
    report = text_report(
        evaluate_logits(network, validation.rows, task.collate),
        validation.targets,
        texts=[dataset.items[index] for index in job.split.validation.tolist()],
        truncated=[row.truncated for row in validation.rows],
        labels=labels,
    )
    return history, report


def _describe(job: _Job, history: TextHistory, report: dict[str, Any]) -> Checkpoint:
    from edgeml.data.dataset import text_findings, text_hashes
    from edgeml.training.checkpoint import Checkpoint

    dataset, split, encoder = job.dataset, job.split, job.encoder
    used = np.concatenate([split.train, split.validation]).tolist()
    return Checkpoint(
        task=TEXT_TASK,
        model=encoder.name if encoder.where != "folder" else Path(encoder.name).name,
        labels=dataset.labels,
        preprocessing=job.preprocessing.to_json(),
        data={
            "place": dict(job.place),
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "source": dict(dataset.source),
            "split": split.sizes(),
            "findings": text_findings(dataset),
        },
        split={"train": split.train, "validation": split.validation, "test": split.test},
        seen=np.unique(text_hashes(dataset.items[index] for index in used)),
        training={
            "settings": job.settings.to_json(),
            "identity": job.identity(),
            "history": history.to_json(),
            "accuracy": history.accuracy,
            "temperature": report["temperature"],
            "multi_label": dataset.multi_label,
            "precision": history.precision["precision"],
            "report": report,
        },
        provenance={
            "seed": job.settings.seed,
            "weights": job.weights,
            "weights_sha256": encoder.sha256 if job.weights == "pretrained" else None,
            "encoder": {
                "where": encoder.where,
                "licence": encoder.licence,
                "revision": encoder.revision,
            },
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, str]:
    import tokenizers
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
    }
