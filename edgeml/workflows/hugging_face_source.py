"""A text classifier that somebody else fine-tuned, in the hub's layout, as the source of an export.

It names its classes, or not, in its own way; the data names them in another. They are matched by
name, whatever their case and order, or by number.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer

from edgeml.core.progress import Progress
from edgeml.data.dataset import TextDataset
from edgeml.data.opening import open_text_data
from edgeml.errors import DataError, InputError
from edgeml.training import encoders
from edgeml.training.checkpoint import Checkpoint
from edgeml.training.text_architectures import max_positions, quiet
from edgeml.training.text_files import load_classifier
from edgeml.workflows.sources import Source
from edgeml.workflows.text_source import text_source_of
from edgeml.workflows.training_options import TEXT_TASK
from edgeml.workflows.training_text import fixed_tokenizer

_UNNAMED = re.compile(r"LABEL_\d+")
# Longer inputs cost quadratic time, and few classifiers are trained on more.
_MAX_LENGTH = 512
_COMPARED_TEXTS = 32


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
    if multi_label != dataset.multi_label:
        raise InputError(
            "the model gives several labels a text and the data has one each; proving such a model "
            "on a table is not possible yet; fine-tune it with --multi-label and export that",
            item=name,
        )
    network = _load(encoder, num_labels=config.num_labels)
    preprocessing, tokenizer = fixed_tokenizer(encoder, min(_MAX_LENGTH, max_positions(config)))
    _compare_tokenizers(encoder, tokenizer.contents, dataset.items[:_COMPARED_TEXTS])
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


def _compare_tokenizers(encoder: encoders.Encoder, contents: bytes, texts: Sequence[str]) -> None:
    """Refuse a model whose own library would make other ids of a text than its tokenizer's file.

    ``tokenizer_config.json`` may override the file, by lower-casing or a prefix space; a device
    runs the file alone.
    """
    fixed = Tokenizer.from_buffer(contents)
    fixed.no_padding()
    cut = fixed.truncation["max_length"]
    try:
        with quiet():
            tokenizers: Any = transformers.AutoTokenizer
            theirs = tokenizers.from_pretrained(
                encoder.path, local_files_only=True, trust_remote_code=False
            )
            for text in texts:
                wanted = theirs(text, truncation=True, max_length=cut)["input_ids"]
                if fixed.encode(text).ids != wanted:
                    raise InputError(
                        "tokenizer_config.json changes what tokenizer.json does; one file with all "
                        "of it was expected, since a device runs that alone; save it with "
                        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
                        item=encoder.name,
                    )
    except (OSError, ValueError, KeyError) as exc:
        if isinstance(exc, InputError):
            raise
        raise InputError(f"the tokenizer cannot be loaded ({exc})", item=encoder.name) from exc


def _load(encoder: encoders.Encoder, *, num_labels: int) -> torch.nn.Module:
    """Load a classifier of which every tensor is in its file, the head's included."""
    try:
        return load_classifier(encoder.path, num_labels=num_labels)
    except (OSError, ValueError, RuntimeError, SafetensorError) as exc:
        raise InputError(
            f"the classifier cannot be loaded ({exc}); complete weights, those of its head "
            "included, were expected; download it again",
            item=encoder.name,
        ) from exc


def match_labels(dataset: TextDataset, labels: tuple[str, ...]) -> TextDataset:
    """Return the data with the model's classes in the model's order.

    Args:
        dataset: Labelled texts.
        labels: The model's classes; ``LABEL_0``, ``LABEL_1`` and so on name nothing, so the data
            must then number its classes, or use these words.

    Raises:
        DataError: The data's classes are not the model's.
    """
    exact = {label: index for index, label in enumerate(labels)}
    numbered = {str(index): index for index in range(len(labels))}
    folded = {label.casefold(): index for index, label in enumerate(labels)}
    alike = len(folded) < len(labels) or set(dataset.labels) <= set(exact)
    wanted = exact if alike else folded
    names = [label if alike else label.casefold() for label in dataset.labels]
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
