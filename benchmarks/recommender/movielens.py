"""Retrieval on MovieLens-100k under RecBole's protocol: every system, five splits, full ranking.

``python -m benchmarks.recommender.movielens --seeds 5 --out rows.json`` prints the table of
docs/results/recommender-retrieval.md. Random 8:1:1 within each user, every rating a positive, seen
items of train and validation masked at test, item statistics from train alone. EASE's penalty, the
rank of its factors, and when BPR and the towers stop are chosen on each split's validation part;
the trained models' other settings were chosen on the first split's (``--tune``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import prepare
from edgeml.recommending.evaluation import mean_interval, means, paired_interval, ranking_metrics
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.item_item import Ease, ItemKnn, LinearFactors, Popularity
from edgeml.recommending.retrieval.model import RetrievalModel, top_k
from edgeml.training.recommendation.retrieval_settings import BprSettings, TwoTowerSettings
from edgeml.workflows.recommendation_embeddings import fit_bpr, fit_two_tower, tower_features

PENALTIES = (100.0, 200.0, 300.0, 500.0, 800.0)
RANKS = (32, 64, 128, 256)
NEIGHBOURS = (50, 100, 200)
SHRINKAGES = (0.0, 10.0, 50.0)
BPR_GRID = [
    {"l2": l2, "dimension": dimension}
    for l2 in (0.003, 0.006, 0.01, 0.02)
    for dimension in (64, 128)
]
TOWER_GRID = [
    {"temperature": temperature, "dropout": dropout}
    for temperature in (0.07, 0.1, 0.2)
    for dropout in (0.1, 0.3, 0.5)
]


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split: rows by user code."""

    train: Histories
    validation: Histories
    seen: Histories
    test: Histories
    num_items: int
    user_features: Any
    item_features: Any


def split_of(seed: int) -> Split:
    """Return the split of a seed."""
    prepared = prepare(open_log("movielens-100k"), split="random", seed=seed)
    sizes = {"num_users": len(prepared.user_ids)}

    def rows(*parts: Any) -> Histories:
        users = np.concatenate([part.users for part in parts])
        return Histories.by_user(users, np.concatenate([part.items for part in parts]), **sizes)

    features = prepared.features
    return Split(
        train=rows(prepared.train),
        validation=rows(prepared.validation),
        seen=rows(prepared.train, prepared.validation),
        test=rows(prepared.test),
        num_items=prepared.num_items,
        user_features=tower_features(features.users, num_rows=len(prepared.user_ids)),
        item_features=tower_features(features.items, num_rows=prepared.num_items),
    )


def validation_ndcg(model: RetrievalModel, split: Split) -> float:
    """Return NDCG@10 on the validation part, items of train masked."""
    top = top_k(model, split.train, 10).items
    return means(ranking_metrics(top, split.validation))["ndcg_at_10"]


def closed_forms(split: Split) -> Iterator[tuple[str, RetrievalModel, dict[str, Any]]]:
    """Yield each closed-form system with what validation chose."""
    users, items = split.train.row_of_event, split.train.items
    sizes = {"num_users": len(split.train), "num_items": split.num_items}

    def best(models: dict[Any, Any]) -> Any:
        return max(models, key=lambda key: validation_ndcg(models[key], split))

    yield "popularity", Popularity.fit(items, num_items=split.num_items), {}
    neighbours = {
        (count, shrinkage): ItemKnn.fit(
            users, items, **sizes, neighbours=count, shrinkage=shrinkage
        )
        for count in NEIGHBOURS
        for shrinkage in SHRINKAGES
    }
    chosen = best(neighbours)
    yield (
        "item_knn",
        neighbours[chosen],
        dict(zip(("neighbours", "shrinkage"), chosen, strict=True)),
    )
    eases = {l2: Ease.fit(users, items, **sizes, l2=l2) for l2 in PENALTIES}
    l2 = best(eases)
    yield "ease", eases[l2], {"l2": l2}
    factors = {
        (penalty, cut.item_vectors.shape[1]): cut
        for penalty in PENALTIES
        for cut in _at_ranks(eases[penalty], split.train)
    }
    chosen = best(factors)
    yield "linear_factors", factors[chosen], dict(zip(("l2", "rank"), chosen, strict=True))


def _at_ranks(ease: Ease, histories: Histories) -> Iterator[LinearFactors]:
    """Yield the factors at every rank, the strongest directions first, and the whole weights."""
    factors = LinearFactors.from_ease(ease, histories, rank=max(RANKS))
    for rank in RANKS:
        yield LinearFactors(
            fold_in=np.ascontiguousarray(factors.fold_in[:, :rank]),
            item_vectors=np.ascontiguousarray(factors.item_vectors[:, :rank]),
        )
    identity = np.eye(ease.num_items, dtype=np.float32)
    yield LinearFactors(fold_in=ease.weights, item_vectors=identity)


def trained(split: Split, seed: int) -> Iterator[tuple[str, RetrievalModel, dict[str, Any]]]:
    """Yield the trained models, stopped by validation."""
    bpr = fit_bpr(
        split.train, split.validation, num_items=split.num_items, settings=BprSettings(seed=seed)
    )
    yield "bpr", bpr.model, {"epoch": bpr.epoch}
    towers = fit_two_tower(
        split.train,
        split.validation,
        user_features=split.user_features,
        item_features=split.item_features,
        settings=TwoTowerSettings(seed=seed),
    )
    yield "two_tower", towers.model, {"epoch": towers.epoch}


def one_seed(seed: int, *, closed: bool) -> dict[str, dict[str, Any]]:
    """Return every system's figures on one split, vectors being served by FAISS."""
    split = split_of(seed)
    rows: dict[str, dict[str, Any]] = {}
    per_user = {}
    for name, model, chosen in chain(closed_forms(split), () if closed else trained(split, seed)):
        start = time.perf_counter()
        if hasattr(model, "item_vectors"):
            retriever = Retriever.build(model)
            top = retriever.top_k(split.train, 10, seen=split.seen).items
            chosen = {**chosen, "index": retriever.index.spec.name}
        else:
            top = top_k(model, split.train, 10, seen=split.seen).items
        per_user[name] = ranking_metrics(top, split.test)
        figures = means(per_user[name])
        interval = mean_interval(per_user[name]["ndcg_at_10"])
        rows[name] = {
            **figures,
            "ndcg_interval": [interval.low, interval.high],
            "validation_ndcg": validation_ndcg(model, split),
            "chosen": chosen,
            "seconds": time.perf_counter() - start,
        }
        say(f"seed {seed} {name}: {json.dumps(rows[name])}")
    for name in rows:
        difference = paired_interval(per_user[name]["ndcg_at_10"], per_user["ease"]["ndcg_at_10"])
        rows[name]["against_ease"] = [difference.value, difference.low, difference.high]
    return rows


def tune() -> None:
    """Print the validation figure of every setting of the trained models, first split."""
    split = split_of(0)
    for grid in BPR_GRID:
        found = fit_bpr(
            split.train, split.validation, num_items=split.num_items, settings=BprSettings(**grid)
        )
        say(f"bpr {grid}: {found.validation_ndcg:.4f} at epoch {found.epoch}")
    for grid in TOWER_GRID:
        found = fit_two_tower(
            split.train,
            split.validation,
            user_features=split.user_features,
            item_features=split.item_features,
            settings=TwoTowerSettings(**grid),
        )
        say(f"two_tower {grid}: {found.validation_ndcg:.4f} at epoch {found.epoch}")


def table(seeds: list[dict[str, dict[str, Any]]]) -> str:
    """Return the means over the splits as Markdown."""
    names = ("ndcg_at_10", "recall_at_10", "hit_at_10", "mrr_at_10")
    lines = [
        "| system | NDCG@10 | Recall@10 | Hit@10 | MRR@10 | NDCG@10 by split |",
        "|---|---|---|---|---|---|",
    ]
    for system in seeds[0]:
        values = [np.mean([row[system][name] for row in seeds]) for name in names]
        each = ", ".join(f"{row[system]['ndcg_at_10']:.4f}" for row in seeds)
        lines.append(f"| {system} | {' | '.join(f'{value:.4f}' for value in values)} | {each} |")
    return "\n".join(lines)


def say(line: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--closed", action="store_true", help="leave the trained models out")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.tune:
        tune()
        return
    seeds = [one_seed(seed, closed=arguments.closed) for seed in range(arguments.seeds)]
    say(table(seeds))
    if arguments.out:
        arguments.out.write_text(json.dumps(seeds, indent=1))


if __name__ == "__main__":
    main()
