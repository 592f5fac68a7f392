"""A text classifier that somebody else fine-tuned, in the hub's layout, as the source of an export.

It names its classes, or not, in its own way; the data names them in another. They are matched by
name, whatever their case and order, or by number.
"""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from edgeml.core.progress import Progress
from edgeml.data.dataset import TextDataset
from edgeml.data.opening import open_text_data
from edgeml.errors import DataError, InputError
from edgeml.training import encoders
from edgeml.training.checkpoint import Checkpoint
from edgeml.training.text_architectures import max_positions
from edgeml.workflows.sources import Source
from edgeml.workflows.text_source import text_source_of
from edgeml.workflows.training_options import TEXT_TASK
from edgeml.workflows.training_text import fixed_tokenizer

_UNNAMED = re.compile(r"LABEL_\d+")
# Longer inputs cost quadratic time, and few classifiers are trained on more.
_MAX_LENGTH = 512


def open_hugging_face_source(
    name: str, data: str | Path | None, *, seed: int, progress: Progress
) -> Source:
    """Put a fine-tuned classifier and the data to prove it on together.

    Args:
        name: A folder in the hub's layout, or a hub id.
        data: Labelled texts of the model's classes, which it was not trained on.
        seed: Seed of the split.
        progress: Told while texts are prepared, the model is traced and quantized.

    Raises:
        InputError: It is no text classifier, or no data was given.
        DataError: The data is unfit, or the hub cannot be reached.
    """
    encoder = encoders.find_encoder(name)
    config = encoders.read_config(encoder)
    if not any("SequenceClassification" in row for row in config.architectures or ()):
        raise InputError(
            "the model has no classification head; one for sequence classification was expected; "
            "run 'edgeml finetune' on it first",
            item=name,
        )
    if data is None:
        raise InputError(
            "a model from elsewhere brings no data to prove it on; give labelled texts that it was "
            "not trained on with --data",
            item=name,
        )
    multi_label = config.problem_type == "multi_label_classification"
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    dataset = match_labels(open_text_data(data), labels)
    network = encoders.build_classifier(
        encoder,
        num_labels=config.num_labels,
        multi_label=multi_label,
        weights="pretrained",
        dropout=0.0,
        seed=seed,
    )
    preprocessing, tokenizer = fixed_tokenizer(encoder, min(_MAX_LENGTH, max_positions(config)))
    checkpoint = Checkpoint(
        task=TEXT_TASK,
        model=encoder.name if encoder.where == "hub" else encoder.path.absolute().name,
        labels=dataset.labels,
        preprocessing=preprocessing.to_json(),
        data={"name": dataset.name, "fingerprint": None, "source": dict(dataset.source)},
        split={},
        seen=np.zeros(0, dtype=np.uint64),
        training={
            "multi_label": multi_label,
            "temperature": 1.0,
            "accuracy": None,
            "settings": {},
        },
        provenance={"versions": _versions()},
    )
    return text_source_of(
        checkpoint,
        network,
        dataset,
        tokenizer=tokenizer.contents,
        given=True,
        seed=seed,
        progress=progress,
    )


def match_labels(dataset: TextDataset, labels: tuple[str, ...]) -> TextDataset:
    """Return the data with the model's classes in the model's order.

    Args:
        dataset: Labelled texts.
        labels: The model's classes; ``LABEL_0``, ``LABEL_1`` and so on name nothing, so the data
            must then number its classes, or use these words.

    Raises:
        DataError: The data's classes are not the model's.
    """
    wanted = {label.casefold(): index for index, label in enumerate(labels)}
    numbered = {str(index): index for index in range(len(labels))}
    names = [label.casefold() for label in dataset.labels]
    if set(names) <= set(wanted):
        places = [wanted[name] for name in names]
    elif set(names) <= set(numbered):
        places = [numbered[name] for name in names]
        unnamed = all(_UNNAMED.fullmatch(label) for label in labels)
        labels = tuple(numbered) if unnamed else labels
    else:
        reason = (
            f"its classes are {', '.join(dataset.labels)}; the model's are {', '.join(labels)}; "
            "name them alike, or number them from 0 in the model's order"
        )
        raise DataError(source=dataset.name, reason=reason)
    order = np.asarray(places)
    if dataset.targets.ndim == 2:
        targets: Any = np.zeros((len(dataset.targets), len(labels)), dtype=bool)
        targets[:, order] = dataset.targets
    else:
        targets = order[dataset.targets].astype(np.int64)
    return replace(dataset, labels=labels, targets=targets)


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
