"""A row of a recipe's report: what was timed, and what the manifest says of the variant."""

from __future__ import annotations

from typing import Any

import edgeml


def comparison_row(comparison: edgeml.Comparison, manifest: Any, *, samples: int) -> dict[str, Any]:
    """Return the report's keys for one competitor.

    Args:
        comparison: What was measured; its target is ``place variant``.
        manifest: The bundle's.
        samples: Items that were answered.
    """
    target, _, name = comparison.target.partition(" ")
    variant = manifest.variant(name) if target != "torch" else None
    return {
        **comparison.to_json(),
        "target": target,
        "name": name,
        "precision": variant.precision if variant else name,
        "engine": variant.engine if variant else "torch",
        "size_bytes": variant.size_bytes if variant else None,
        "agreement": None,
        "verdict": variant.verdict if variant else "reference",
        "reason": variant.reason if variant else "the checkpoint itself",
        "samples": samples,
        "threads": 1,
        "batch": 1,
    }
