"""``python -m benchmarks.zoo.recipes MODULE``: one file, in its recipe's environment.

The job comes as JSON on stdin; facts go to ``facts.json`` beside the file; stdout is chatter.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.zoo.recipes.job import Job


def main() -> None:
    """Make it."""
    job = json.load(sys.stdin)
    for name in ("model", "data", "out"):
        job[name] = Path(job[name])
    module = importlib.import_module(f"benchmarks.zoo.recipes.{sys.argv[1]}")
    facts = module.make(Job(**job))
    (job["out"] / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
