"""Image classifiers of transformers: given a new head, and rebuilt from their configuration.

Weights are read as safetensors only, code from a model's folder is never run, and a tensor that the
backbone needs and the file lacks is an error, never a random value. The head alone may be new:
those tensors whose shape depends on the number of classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from edgeml.errors import InputError
from edgeml.training.encoders import Encoder
from edgeml.training.text_architectures import quiet

_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)
# Where the configuration was read from is nobody's business who is given a checkpoint.
_PRIVATE = ("_name_or_path", "name_or_path")


class PixelsToLogits(nn.Module):
    """A classifier of transformers as a module from pixels to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of float32 ``(batch, 3, height, width)``."""
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


def resnet_18_config() -> dict[str, Any]:
    """Return the configuration of ``microsoft/resnet-18``, for random weights without a hub."""
    return {
        "model_type": "resnet",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
        "hidden_act": "relu",
    }


def read_hub_config(encoder: Encoder) -> dict[str, Any]:
    """Return a model's configuration as JSON values.

    Raises:
        InputError: transformers does not know it, or it takes pictures of other than three
            channels.
    """
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                encoder.path, local_files_only=True, trust_remote_code=False
            )
    except _UNUSABLE as exc:
        raise _unusable(encoder.name, exc) from exc
    if getattr(config, "num_channels", 3) != 3:
        raise InputError(
            f"the model takes pictures of {config.num_channels} channels; 3 were expected",
            item=encoder.name,
        )
    value: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in value.items() if key not in _PRIVATE}


def build_hub_classifier(
    config: Mapping[str, Any], *, num_classes: int, seed: int, name: str
) -> nn.Module:
    """Build a classifier with random weights.

    Args:
        config: What :func:`read_hub_config` gave.
        num_classes: Outputs of its head.
        seed: Seed of every random value.
        name: What the user called it.

    Returns:
        A module over normalised float images ``(batch, 3, height, width)`` that gives logits.

    Raises:
        InputError: It is no image classifier.
    """
    auto: Any = transformers.AutoModelForImageClassification
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            return PixelsToLogits(auto.from_config(_with_classes(config, num_classes)).float())
    except _UNUSABLE as exc:
        raise _unusable(name, exc) from exc


def load_hub_classifier(
    encoder: Encoder, config: Mapping[str, Any], *, num_classes: int, seed: int
) -> nn.Module:
    """Load a classifier's backbone and give it a new head.

    Args:
        encoder: Its files.
        config: What :func:`read_hub_config` gave.
        num_classes: Outputs of the new head.
        seed: Seed of the head's values.

    Returns:
        A module over normalised float images ``(batch, 3, height, width)`` that gives logits.

    Raises:
        InputError: It is no image classifier, or its file lacks tensors of the backbone.
    """
    auto: Any = transformers.AutoModelForImageClassification
    wanted = _with_classes(config, num_classes)
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            model, found = auto.from_pretrained(
                encoder.path,
                config=wanted,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            new = {str(key) for key in found["missing_keys"]}
            # Names, or names with both shapes: it depends on the version.
            rows = found["mismatched_keys"]
            new |= {row if isinstance(row, str) else str(row[0]) for row in rows}
            head = _head_names(config, num_classes)
            _renew(model, head, seed)
    except (*_UNUSABLE, SafetensorError) as exc:
        raise _unusable(encoder.name, exc) from exc
    lacking = sorted(new - head)
    if lacking:
        raise InputError(
            f"{len(lacking)} tensors of the backbone are missing or have another shape, such as "
            f"'{lacking[0]}'; complete weights were expected; download it again",
            item=encoder.name,
        )
    return PixelsToLogits(model.float())


def _with_classes(config: Mapping[str, Any], num_classes: int) -> Any:
    values = {
        key: value for key, value in config.items() if key not in ("id2label", "label2id")
    } | {"num_labels": num_classes, "problem_type": None}
    kind = values.pop("model_type")
    return transformers.AutoConfig.for_model(kind, **values)


def _head_names(config: Mapping[str, Any], num_classes: int) -> set[str]:
    """Return the tensors whose shape depends on the number of classes."""
    auto: Any = transformers.AutoModelForImageClassification
    shapes = []
    for count in (num_classes, num_classes + 1):
        with torch.device("meta"):
            model = auto.from_config(_with_classes(config, count))
        shapes.append({name: value.shape for name, value in model.state_dict().items()})
    return {name for name, shape in shapes[0].items() if shapes[1][name] != shape}


def _renew(model: nn.Module, head: set[str], seed: int) -> None:
    """Give the head small values: a model of as many classes would bring its old one along."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in head and value.ndim > 1:
                value.normal_(std=0.01, generator=generator)
            elif name in head:
                value.zero_()


def _unusable(name: str, exc: Exception) -> InputError:
    first = (str(exc).splitlines() or [type(exc).__name__])[0]
    return InputError(
        f"this model cannot be fine-tuned as an image classifier ({first}); one was expected that "
        "transformers knows, with weights as safetensors; choose another --model",
        item=name,
    )
