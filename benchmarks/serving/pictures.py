"""Bundles at any input size, from generated pictures: speed does not depend on what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import edgeml
from edgeml.core.timing import TimingPlan

_CLASSES = 10
_PER_CLASS = 12


def make_pictures(root: Path) -> None:
    """Write a folder of pictures a class."""
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        base = rng.integers(0, 256, size=(8, 8, 3))
        for number in range(_PER_CLASS):
            noisy = np.clip(base + rng.normal(0, 20, size=base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((64, 64)).save(folder / f"{number}.png")


def make_checkpoint(pictures: Path, size: int, out: Path) -> Path:
    """Fine-tune the embedded default for one epoch."""
    settings = edgeml.TrainingSettings(epochs=1, batch_size=16)
    done = edgeml.finetune(data=pictures, image_size=size, settings=settings, out=out)
    return done.checkpoint


def make_bundle(checkpoint: Path, out: Path) -> edgeml.Bundle:
    """Export with little timing: only a suite's own timings count."""
    settings = edgeml.ExportSettings(timing=TimingPlan(rounds=10, calls=1), budget_s=60.0)
    return edgeml.export(checkpoint, out=out, settings=settings).bundle
