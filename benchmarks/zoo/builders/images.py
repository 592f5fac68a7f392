"""Classifiers of 224-pixel pictures: convolutions trained on small ones, then a fitted head.

A grating looks the same in a small picture, and a mean over places ends the nets, so that a minute
of training on small pictures serves large ones. The vision transformer stays random but its head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn

from benchmarks.zoo.builders.mobilenet import MobileNetV3Small
from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import features_of, fit_head, set_up, settle_norms, train
from benchmarks.zoo.pictures import GRATING_CLASSES, gratings
from benchmarks.zoo.tracing import trace

_SIZE = 224
_INPUT = "image"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How many pictures, and how hard they are."""

    fit: int
    keep: int
    tilt: float
    noise: float
    decay: float = 1e-3
    steps: int = 0
    small: int = 96
    batch: int = 16
    seed: int = 0


class _Logits(nn.Module):
    """A transformers model that gives logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Map ``image``: float32 ``(batch, 3, 224, 224)``."""
        logits: Tensor = self.model(image).logits
        return logits


def resnet18() -> Built:
    """Build ResNet-18 of transformers."""
    set_up(0)
    config = transformers.ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=GRATING_CLASSES,
    )
    model = transformers.ResNetForImageClassification(config)
    return _fitted(
        _Logits(model),
        body=lambda image: model.resnet(image).pooler_output.flatten(1),
        head=model.classifier[1],
        plan=_Plan(fit=800, keep=500, tilt=0.2, noise=50.0, steps=100),
    )


def mobilenet_v3_small() -> Built:
    """Build MobileNetV3-Small."""
    set_up(0)
    model = MobileNetV3Small(num_classes=GRATING_CLASSES)
    return _fitted(
        model,
        body=model.features,
        head=model.classifier,
        plan=_Plan(fit=1200, keep=600, tilt=0.2, noise=50.0, steps=200, batch=32),
    )


def vit_small() -> Built:
    """Build the small vision transformer, patches of 16 pixels."""
    set_up(0)
    config = transformers.ViTConfig(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        intermediate_size=1536,
        image_size=_SIZE,
        patch_size=16,
        num_labels=GRATING_CLASSES,
        # The library's 0.02 leaves a random net all but linear: gratings would average to nothing.
        initializer_range=0.06,
    )
    model = transformers.ViTForImageClassification(config)
    return _fitted(
        _Logits(model),
        body=lambda image: model.vit(image).last_hidden_state[:, 0],
        head=model.classifier,
        plan=_Plan(fit=900, keep=500, tilt=0.15, noise=40.0),
    )


def _fitted(
    module: nn.Module, *, body: Callable[[Tensor], Tensor], head: nn.Linear, plan: _Plan
) -> Built:
    def draw(count: int, seed: int, size: int = _SIZE):
        return gratings(count, size=size, seed=seed, tilt=plan.tilt, noise=plan.noise)

    def draw_small(step: int):
        images, labels = draw(plan.batch, 1000 + step, plan.small)
        return {_INPUT: images}, labels

    train(module, draw_small, steps=plan.steps, rate=1e-3)

    images, labels = draw(plan.fit, plan.seed + 1)
    settle_norms(module, images[:128])
    fit_head(head, features_of(body, {_INPUT: images}), labels, decay=plan.decay)
    weights = "trained, head refitted" if plan.steps else "random, head fitted"
    kept, kept_labels = draw(plan.keep, plan.seed + 2)
    return Built(
        model=trace(module, {_INPUT: torch.from_numpy(kept[:2])}),
        inputs={_INPUT: kept},
        labels=kept_labels,
        facts={"weights": weights, "task": f"{GRATING_CLASSES} kinds of gratings"},
    )
