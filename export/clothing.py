"""Clothing pictures: Fashion-MNIST, at the edge and behind Triton.

The whole line of the product: fine-tune, export and prove, verify, publish, serve, compare. The
presets ``full`` and ``resnet`` are each meant for an hour on two cores; ``resnet`` starts from
random weights, as the published figure did.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import edgeml
from edgeml.core.progress import Progress, silent
from edgeml.training.settings import Augmentation
from export.image_recipe import ImageRecipe, run_image_recipe

_DATA = "fashion-mnist"

PRESETS: Mapping[str, ImageRecipe] = {
    # One epoch at 64 pixels: minutes on two cores.
    "quick": ImageRecipe(
        name="clothing",
        data=_DATA,
        model="efficientnet-lite0",
        image_size=64,
        settings=edgeml.TrainingSettings(epochs=1),
    ),
    "full": ImageRecipe(
        name="clothing",
        data=_DATA,
        model="efficientnet-lite0",
        image_size=96,
        settings=edgeml.TrainingSettings(
            epochs=6,
            averaging=0.999,
            augmentation=Augmentation(max_shift=1 / 12, erase=0.25),
        ),
        robustness=True,
    ),
    "resnet": ImageRecipe(
        name="clothing-resnet",
        data=_DATA,
        model="resnet-18",
        weights="random",
        image_size=56,
        settings=edgeml.TrainingSettings(
            epochs=12,
            learning_rate=1e-3,
            averaging=0.999,
            patience=12,
            augmentation=Augmentation(max_shift=1 / 12, erase=0.25),
        ),
        robustness=True,
    ),
}


def run(
    *,
    preset: str,
    place: Path,
    repository: Path,
    resume: bool = False,
    progress: Progress = silent,
) -> edgeml.Report:
    """Run the recipe; see :func:`export.image_recipe.run_image_recipe`."""
    return run_image_recipe(
        PRESETS[preset],
        preset=preset,
        place=place,
        repository=repository,
        resume=resume,
        progress=progress,
    )
