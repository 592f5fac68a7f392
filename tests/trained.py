"""A real model trained for seconds on pictures that are easy to tell apart, and its real bundle.

It is made once for all tests, which only read it; whoever spoils a file copies the folder first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import edgeml
from edgeml.core.timing import TimingPlan
from edgeml.workflows.candidates import Candidate
from edgeml.workflows.exporting import Exported

SIDE = 32
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
PER_CLASS = 20
# Never called unstable: a neighbour on the machine must not make it measure again and again.
TIMING = TimingPlan(rounds=6, calls=2, warmup=1, max_spread=1e9)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the expensive steps left behind.

    Attributes:
        pictures: Folder of class folders.
        checkpoint: Fine-tuned from the published weights.
        bundle: Its export.
        core: The traced graph, so that no other test has to trace.
        exported: What the export returned.
    """

    pictures: Path
    checkpoint: Path
    bundle: Path
    core: Path
    exported: Exported

    def quicken(self, patch: pytest.MonkeyPatch) -> None:
        """Let later exports of this checkpoint skip tracing and quantizing, and nothing else."""

        def trace(*_: Any, **__: Any) -> onnx.ModelProto:
            return onnx.load(self.core)

        patch.setattr("edgeml.workflows.image_source.trace_image_model", trace)
        patch.setattr("edgeml.workflows.image_source.make_image_candidates", self.candidates)

    def candidates(self, *_: Any, **__: Any) -> list[Candidate]:
        """Return the bundle's models as if they had just been made."""
        manifest = edgeml.Bundle.read(self.bundle).manifest
        return [
            Candidate(
                name=row.name,
                precision=row.precision,
                model=onnx.load(self.bundle / row.file),
                recipe=row.recipe,
                tuned_for=row.tuned_for,
            )
            for row in manifest.variants
        ]


def make_pictures(root: Path, *, per_class: int = PER_CLASS, seed: int = 0) -> Path:
    """Write noisy pictures of one colour each, a folder a class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            noisy = rng.normal(colour, 25, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{number:02}.png")
    return root


def train_and_export(root: Path) -> Trained:
    """Do what a user does, and keep the traced graph."""
    from edgeml.workflows import image_source

    pictures, checkpoint, core = make_pictures(root / "colours"), root / "checkpoint", root / "core"
    edgeml.finetune(
        data=pictures,
        out=checkpoint,
        image_size=SIDE,
        settings=edgeml.TrainingSettings(
            epochs=2, batch_size=8, learning_rate=3e-3, norm_momentum=0.3, num_threads=2
        ),
    )
    trace: Callable[..., onnx.ModelProto] = image_source.trace_image_model

    def keep(*arguments: Any, **options: Any) -> onnx.ModelProto:
        model = trace(*arguments, **options)
        onnx.save(model, core)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_source, "trace_image_model", keep)
        exported = edgeml.export(
            checkpoint,
            out=root / "colours.bundle",
            settings=edgeml.ExportSettings(num_threads=2, timing=TIMING),
        )
    return Trained(
        pictures=pictures,
        checkpoint=checkpoint,
        bundle=root / "colours.bundle",
        core=core,
        exported=exported,
    )
