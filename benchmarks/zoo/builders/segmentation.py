"""A small U-Net; its data has no labels, so that agreement judges it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import set_up, train
from benchmarks.zoo.pictures import SHAPE_CLASSES, shapes
from benchmarks.zoo.tracing import trace

_SIZE = 96
_WIDTHS = (16, 32, 64, 128)
_SAMPLES = 1000
_STEPS, _BATCH = 150, 16


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """float32 ``(batch, 3, height, width)`` to logits ``(batch, classes, height, width)``."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        widths = _WIDTHS
        self.down = nn.ModuleList([_pair(a, b) for a, b in zip((3, *widths), widths, strict=False)])
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, b, 2, 2)
                for a, b in zip(widths[::-1], widths[-2::-1], strict=False)
            ]
        )
        self.join = nn.ModuleList([_pair(2 * width, width) for width in widths[-2::-1]])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of each pixel."""
        kept, x = [], image
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat([up(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def unet() -> Built:
    """Build the segmenter."""
    set_up(0)
    module = UNet(num_classes=SHAPE_CLASSES)
    images, masks = shapes(_STEPS * _BATCH // 2, size=_SIZE, seed=1)

    def draw(step: int):
        rows = np.random.default_rng(step).integers(0, len(images), _BATCH)
        return {"image": images[rows]}, masks[rows]

    train(module, draw, steps=_STEPS, rate=3e-3)
    kept, kept_masks = shapes(_SAMPLES, size=_SIZE, seed=2)
    with torch.no_grad():
        answers = module(torch.from_numpy(kept[:100])).argmax(dim=1).numpy()
    return Built(
        model=trace(module, {"image": torch.from_numpy(kept[:2])}),
        inputs={"image": kept},
        labels=None,
        facts={
            "weights": "trained",
            "task": "shapes in noise, no labels",
            "pixel_accuracy": round(float((answers == kept_masks[:100]).mean()), 4),
        },
    )
