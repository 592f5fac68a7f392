"""Rankers of several sizes on KuaiRand: AUC against milliseconds, and INT8 under its gates.

``EDGEML_DATA_DIR=... python -m benchmarks.recommender.ranker_speed --cache DIR`` trains what DIR
lacks (minutes), then exports and times each size at 500 candidates with one thread. ``--only
train`` and ``--only measure`` separate the two, so that the machine can be left alone while it is
timed. 512-256-128 is the fixed size that other figures are compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.data.interactions.impressions import impression_rows
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import prepare
from edgeml.tasks.recommendation.ranking import RankingRows
from edgeml.training.recommendation.ranker_files import load_ranker, save_ranker
from edgeml.training.recommendation.ranker_loop import train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_ranking import export_ranker
from edgeml.workflows.recommendation_size import PRICE_PER_MS, SIZES

FIXED = (512, 256, 128)
# Its speed and what INT8 costs are asked of it, not its best AUC.
_FIXED_EPOCHS = 2


def main(arguments: list[str] | None = None) -> None:
    """Train, then export and time."""
    parser = argparse.ArgumentParser(prog="benchmarks.recommender.ranker_speed")
    parser.add_argument("--cache", type=Path, required=True, help="where trained rankers are kept")
    parser.add_argument("--only", choices=("train", "measure"))
    parser.add_argument("--data", default="kuairand-pure")
    given = parser.parse_args(arguments)
    if given.only != "measure":
        _train(given.cache, given.data)
    if given.only != "train":
        rows: list[dict[str, Any]] = []
        for row in _measure(given.cache):
            rows.append(row)
            (given.cache / "ranker_speed.json").write_text(json.dumps(rows, indent=1) + "\n")
            sys.stdout.write(json.dumps(row) + "\n")


def _train(cache: Path, data: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    prepared = prepare(open_log(data))
    parts = {}
    for name in ("train", "validation"):
        parts[name] = impression_rows(prepared, getattr(prepared.split, name))
        np.savez(cache / f"{name}.npz", **parts[name].to_arrays())
    for hidden in (*SIZES, FIXED):
        place = cache / "-".join(map(str, hidden))
        if place.exists():
            continue
        settings = RankerSettings(
            hidden=hidden, num_threads=1, max_epochs=_FIXED_EPOCHS if hidden == FIXED else 6
        )
        trained = train_ranker(
            prepared.features.fields, parts["train"], parts["validation"], settings
        )
        place.mkdir()
        save_ranker(trained, place)
        sys.stderr.write(f"{hidden}: validation {trained.validation:.4f}\n")


def _measure(cache: Path) -> Iterator[dict[str, Any]]:
    train, validation = (
        RankingRows.from_arrays(dict(np.load(cache / f"{name}.npz")))
        for name in ("train", "validation")
    )
    for hidden in (FIXED, *SIZES):
        trained = load_ranker(cache / "-".join(map(str, hidden)))
        with tempfile.TemporaryDirectory() as folder:
            found = export_ranker(trained, Path(folder), calibration=train, selection=validation)
        for row in found.rows:
            kept = {"hidden": hidden, **row, "chosen": found.chosen}
            kept["worth"] = trained.validation - PRICE_PER_MS * row["p50_ms"]
            yield kept


if __name__ == "__main__":
    main()
