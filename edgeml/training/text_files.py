"""A text classifier and its tokenizer in the hub's layout: what is in a checkpoint's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from edgeml.core.files import write_json
from edgeml.tasks.text import TOKENIZER
from edgeml.training.text_architectures import quiet

CONFIG = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"
CLASSIFIER_FILES = (CONFIG, WEIGHTS_FILE, TOKENIZER, TOKENIZER_CONFIG)


@dataclass(frozen=True, kw_only=True)
class SavedTokenizer:
    """A tokenizer as a checkpoint keeps it.

    Attributes:
        contents: ``tokenizer.json``, truncation and padding fixed.
        special_tokens: Such as ``pad_token`` to ``[PAD]``.
        inputs: The model's inputs.
        max_length: Tokens after which a text is cut.
    """

    contents: bytes
    special_tokens: Mapping[str, str]
    inputs: tuple[str, ...]
    max_length: int


def save_classifier(
    model: nn.Module,
    folder: Path,
    tokenizer: SavedTokenizer,
    *,
    labels: Sequence[str],
    name: str,
) -> tuple[str, ...]:
    """Write a classifier and its tokenizer in the hub's layout.

    Args:
        model: What :func:`build_classifier` made.
        folder: An existing folder.
        tokenizer: The tokenizer.
        labels: Class names in index order.
        name: The encoder's name; never its place on this machine.

    Returns:
        Names of the files written.
    """
    module: Any = model
    module.config.id2label = dict(enumerate(labels))
    module.config.label2id = {label: index for index, label in enumerate(labels)}
    # Older versions of transformers write it into the configuration.
    module.config.name_or_path = name
    with quiet():
        module.save_pretrained(folder, safe_serialization=True, max_shard_size="1TB")
    (folder / TOKENIZER).write_bytes(tokenizer.contents)
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.max_length,
        "model_input_names": list(tokenizer.inputs),
        "clean_up_tokenization_spaces": False,
        **tokenizer.special_tokens,
    }
    write_json(folder / TOKENIZER_CONFIG, described)
    return CLASSIFIER_FILES


def load_classifier(folder: Path, *, num_labels: int) -> nn.Module:
    """Load what :func:`save_classifier` wrote, in evaluation mode.

    Raises:
        ValueError: It has another number of labels, or lacks tensors.
    """
    with quiet():
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if model.config.num_labels != num_labels or found["missing_keys"]:
        lacking = len(found["missing_keys"])
        raise ValueError(
            f"the model has {model.config.num_labels} labels and lacks {lacking} tensors; "
            f"{num_labels} labels were expected"
        )
    module: nn.Module = model
    return module.eval()
