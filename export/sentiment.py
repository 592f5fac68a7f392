"""Sentiment of support chats: MiniLM-L6 on SST-2, at the edge and behind Triton.

Data: SST-2 where it can be had (``EDGEML_DATA_DIR``, the hub), else rated product reviews, which
every machine can fetch; ``report.json`` names the one used and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import edgeml
from edgeml.core.progress import Progress, silent
from export.text_recipe import TextRecipe, run_text_recipe

PRESETS: Mapping[str, TextRecipe] = {
    "quick": TextRecipe(
        name="sentiment",
        data=("sst2", "product-reviews"),
        settings=edgeml.TextTrainingSettings(epochs=3, learning_rate=5e-5, averaging=0.99),
    ),
    "full": TextRecipe(
        name="sentiment",
        data=("sst2-phrases", "product-reviews"),
        settings=edgeml.TextTrainingSettings(epochs=3, learning_rate=6e-5, averaging=0.999),
        # Phrases of other sentences, to compare INT8 with fp32 on more than 872 answers.
        further=("sst2-phrase-dev",),
    ),
}


def run(
    *, preset: str, place: Path, repository: Path, progress: Progress = silent
) -> edgeml.Report:
    """Run the recipe; see :func:`export.text_recipe.run_text_recipe`."""
    return run_text_recipe(
        PRESETS[preset], preset=preset, place=place, repository=repository, progress=progress
    )
