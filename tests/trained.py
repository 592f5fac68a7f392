"""A real model trained for seconds on pictures that are easy to tell apart, and its real bundle.

It is made once for all tests, which only read it; whoever spoils a file copies the folder first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import edgeml
from edgeml.core.manifest import Manifest
from edgeml.core.timing import TimingPlan
from edgeml.exporting.building import Workshop
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.runtime.host import detect_host
from edgeml.workflows import trial_worker
from edgeml.workflows.exporting import Exported

SIDE = 32
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
PER_CLASS = 20
# Never called unstable: a neighbour on the machine must not make it measure again and again.
TIMING = TimingPlan(rounds=6, calls=2, warmup=1, max_spread=1e9)
# It forgives the six samples of the validation part.
GATE = edgeml.Gate(max_accuracy_drop=0.5)


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

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return edgeml.Bundle.read(self.bundle).manifest

    def quicken(self, patch: pytest.MonkeyPatch, searches: Path) -> None:
        """Let later exports try the bundle's models in this process, and no others.

        Args:
            patch: Undoes it.
            searches: An empty folder: what one test plants is not found by another.
        """

        def trace(*_: Any, **__: Any) -> onnx.ModelProto:
            return onnx.load(self.core)

        patch.setenv("EDGEML_SEARCH_CACHE", str(searches))
        patch.setattr("edgeml.workflows.image_source.trace_image_model", trace)
        patch.setattr("edgeml.workflows.proving.make_space", lambda *_: make_trials())
        patch.setattr(Workshop, "build", lambda _, trial: (self.model(trial.name), None))
        patch.setattr("edgeml.workflows.searching._can_mix", lambda _: False)
        patch.setattr("edgeml.workflows.jobs.run_child", work_here)

    def model(self, name: str) -> onnx.ModelProto:
        """Return the model of one of the bundle's variants."""
        row = self.manifest.variant(name)
        assert row
        return onnx.load(self.bundle / row.file)


def make_trials() -> list[Trial]:
    """Return one trial a precision, as if the search space held no more."""
    host = detect_host().instruction_set
    recipe = StaticRecipe(types=TYPES_BY_INSTRUCTION_SET[host])
    return [
        Trial(name="fp32", kind="float", precision="fp32"),
        Trial(name="fp16", kind="half", precision="fp16"),
        Trial(name="int8", kind="static", precision="int8", recipe=recipe, tuned_for=host),
    ]


def work_here(command: Sequence[str], *, timeout_s: float) -> str:
    """Do a child's job in this process; what it raises is the test's to see."""
    del timeout_s
    trial_worker.main(Path(command[-1]))
    return ""


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
    from edgeml.workflows import image_source, proving

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

    space = proving.make_space
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_source, "trace_image_model", keep)
        # Float, half, two forms of INT8: each further trial costs seconds.
        patch.setattr(proving, "make_space", lambda *options: space(*options)[:4])
        exported = edgeml.export(
            checkpoint,
            out=root / "colours.bundle",
            gate=GATE,
            settings=edgeml.ExportSettings(num_threads=2, timing=TIMING, budget_s=60),
        )
    return Trained(
        pictures=pictures,
        checkpoint=checkpoint,
        bundle=root / "colours.bundle",
        core=core,
        exported=exported,
    )
