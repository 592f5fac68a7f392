"""Moderation of posts: three unequal classes, and a threshold that keeps a stated precision.

The rare class matters most, so the weights are chosen by macro F1, and what is reported is the
recall of each class. The threshold for ``hate`` is chosen on validation data: the lowest at which
:data:`PRECISION` of what is flagged is right; its precision and recall are then read on test data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import edgeml
from edgeml.core.progress import Progress, silent
from export.text_recipe import TextRecipe, run_text_recipe

PRECISION = 0.5

_SETTINGS = edgeml.TextTrainingSettings(
    epochs=2, learning_rate=5e-5, averaging=0.995, class_weights="balanced"
)

PRESETS: Mapping[str, TextRecipe] = {
    "quick": TextRecipe(
        name="moderation",
        data=("hate-speech-davidson",),
        settings=replace(_SETTINGS, epochs=1),
        threshold_for="hate",
        precision=PRECISION,
    ),
    "full": TextRecipe(
        name="moderation",
        data=("hate-speech-davidson",),
        settings=_SETTINGS,
        threshold_for="hate",
        precision=PRECISION,
    ),
}


def run(
    *, preset: str, place: Path, repository: Path, progress: Progress = silent
) -> edgeml.Report:
    """Run the recipe; see :func:`export.text_recipe.run_text_recipe`."""
    return run_text_recipe(
        PRESETS[preset], preset=preset, place=place, repository=repository, progress=progress
    )
