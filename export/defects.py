"""Steel surfaces: the six NEU defects, at the edge and behind Triton.

Data: ``neu_det`` in ``EDGEML_DATA_DIR``, split by class 70/15/15 with seed 42, as the published
figure was. ``few10`` and ``few50`` learn from 10 and 50 pictures of each class, the choice of an
epoch included, and are means over five seeds, each with a split of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import edgeml
from edgeml.core.progress import Progress, silent
from export.image_recipe import ImageRecipe, run_image_recipe

_PARTS = edgeml.ImageOptions(validation_share=0.15, test_share=0.15)
_FULL = ImageRecipe(
    name="defects",
    data="neu-det",
    model="efficientnet-lite0",
    image_size=128,
    options=_PARTS,
    overrides={"seed": 42, "epochs": 20},
    robustness=True,
)
_FEW = replace(_FULL, seeds=(43, 44, 45, 46), robustness=False)

PRESETS: Mapping[str, ImageRecipe] = {
    # Three epochs at 64 pixels: minutes on two cores.
    "quick": replace(_FULL, image_size=64, overrides={"seed": 42, "epochs": 3}, robustness=False),
    "full": _FULL,
    "few10": replace(
        _FEW,
        options=replace(_PARTS, per_class=10),
        overrides={"seed": 42, "epochs": 60, "batch_size": 16, "patience": 30},
    ),
    "few50": replace(
        _FEW,
        options=replace(_PARTS, per_class=50),
        overrides={"seed": 42, "epochs": 30, "patience": 15},
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
