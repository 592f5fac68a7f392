"""What diversity costs: NDCG@10 against intra-list diversity for both re-rankers.

``python -m benchmarks.recommender.diversity --out FILE`` takes the best 100 of each test user from
the served first stage (EASE's vectors, fitted and tuned without the test part), re-ranks them at
each weight, and prints one line a weight: MovieLens-100k under RecBole's protocol, seed 0, and
KuaiRand's test week where ``EDGEML_DATA_DIR`` has it. Likeness is the cosine of item vectors from
who wanted what in train.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import prepare
from edgeml.errors import DataError
from edgeml.recommending.evaluation.beyond_accuracy import beyond_accuracy
from edgeml.recommending.evaluation.intervals import mean_interval
from edgeml.recommending.evaluation.rankings import ranking_metrics
from edgeml.recommending.reranking import rerank_by_determinant, rerank_by_margin
from edgeml.recommending.retrieval.model import top_k
from edgeml.workflows.recommendation_first_stage import choose_retrieval, fit_systems
from edgeml.workflows.recommendation_parts import evaluation_part

_SETS = (("movielens-100k", "random"), ("kuairand-pure", "temporal"))
_WAYS: dict[str, Callable[..., npt.NDArray[np.int64]]] = {
    "margin": rerank_by_margin,
    "determinant": rerank_by_determinant,
}
_WEIGHTS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)
_NEAR, _SHOWN, _USERS = 100, 10, 3000


def main(arguments: list[str] | None = None) -> None:
    """Print the curves and write them."""
    parser = argparse.ArgumentParser(prog="benchmarks.recommender.diversity")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go, as JSON")
    given = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for data, split in _SETS:
        try:
            rows += curve(data, split)
        except DataError as exc:
            sys.stderr.write(f"left out: {exc}\n")
    given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def curve(data: str, split: str) -> list[dict[str, Any]]:
    """Return one row a method and weight for a data set."""
    prepared = prepare(open_log(data), split=split)
    sizes = {"num_users": len(prepared.user_ids), "num_items": prepared.num_items}
    validation = evaluation_part(prepared, "validation").sample(1500, seed=0)
    choice = choose_retrieval(prepared.train, validation, **sizes, in_time=split == "temporal")
    test = evaluation_part(prepared, "test").sample(_USERS, seed=0)
    systems = fit_systems(test.known, choice, **sizes)
    top = top_k(systems.served, test.histories, _NEAR, seen=test.seen)
    counts = np.bincount(
        test.known.items[test.known.items < prepared.num_items], minlength=prepared.num_items
    )
    base = None
    rows = []
    for way, rerank in _WAYS.items():
        for weight in _WEIGHTS:
            lists = _lists(top.items, top.scores, systems.likeness, rerank, weight)
            ndcg = ranking_metrics(lists, test.relevant, k=_SHOWN)["ndcg_at_10"]
            base = ndcg if base is None else base
            figures = beyond_accuracy(lists, counts=counts, item_vectors=systems.likeness)
            row = {
                "data": data,
                "way": way,
                "weight": weight,
                "ndcg_at_10": float(np.nanmean(ndcg)),
                "change": mean_interval(ndcg - base).to_json(),
                **figures,
            }
            rows.append(row)
            sys.stdout.write(json.dumps(row) + "\n")
    return rows


def _lists(
    items: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    rerank: Callable[..., npt.NDArray[np.int64]],
    weight: float,
) -> npt.NDArray[np.int64]:
    lists = np.zeros((len(items), _SHOWN), dtype=np.int64)
    for row, (codes, values) in enumerate(zip(items, scores, strict=True)):
        real = codes > 0
        picked = rerank(values[real], vectors[codes[real]], k=_SHOWN, weight=weight)
        lists[row, : len(picked)] = codes[real][picked]
    return lists


if __name__ == "__main__":
    main()
