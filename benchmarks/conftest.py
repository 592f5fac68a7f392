"""What the suites share: bundles at several input sizes, and a real Triton server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgeml
from edgeml.core.timing import TimingPlan

# These run in environments of their own, with libraries that this one lacks.
collect_ignore_glob = ["zoo/recipes/*", "peers/engines/*"]

_CLASSES = 10
_PER_CLASS = 12


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A checkpoint and its bundle at one input size."""

    checkpoint: Path
    bundle: edgeml.Bundle


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated pictures: speed does not depend on what they show."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        folder = root / f"class{label}"
        folder.mkdir()
        base = rng.integers(0, 256, size=(8, 8, 3))
        for number in range(_PER_CLASS):
            noisy = np.clip(base + rng.normal(0, 20, size=base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((64, 64)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def deploy(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Deployed]:
    """Fine-tune briefly and export at an input size, once a session for each size."""
    made: dict[int, Deployed] = {}

    def at(size: int) -> Deployed:
        if size not in made:
            place = tmp_path_factory.mktemp(f"size{size}")
            settings = edgeml.TrainingSettings(epochs=1, batch_size=16)
            trained = edgeml.finetune(
                data=pictures, image_size=size, settings=settings, out=place / "checkpoint"
            )
            exported = edgeml.export(
                trained.checkpoint,
                out=place / "clothing.bundle",
                # Only the timings of the suites count, not this one.
                settings=edgeml.ExportSettings(
                    timing=TimingPlan(rounds=10, calls=1), budget_s=60.0
                ),
            )
            made[size] = Deployed(checkpoint=trained.checkpoint, bundle=exported.bundle)
        return made[size]

    return at


@pytest.fixture(scope="session")
def triton(
    deploy: Callable[[int], Deployed], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[edgeml.Predictor]:
    """The 64-pixel bundle behind a real Triton server, over gRPC."""
    repository = tmp_path_factory.mktemp("repository")
    bundle = deploy(64).bundle
    edgeml.publish(bundle, repository=repository, num_threads=1)
    with (
        edgeml.serve_triton(repository, supervised=False) as server,
        edgeml.connect(server.grpc, model="clothing", bundle=bundle) as predictor,
    ):
        yield predictor
