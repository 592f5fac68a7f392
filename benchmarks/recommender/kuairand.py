"""Retrieval on KuaiRand: full catalogue, global temporal split, every system.

``EDGEML_DATA_DIR=... python -m benchmarks.recommender.kuairand`` prints the table of
docs/results/recommender-retrieval.md. Positives are long views. The closed forms are chosen on the
validation day and fitted again on train and validation; the trained models are stopped by the
validation day and trained on train alone. About 4.5 impressions a user: figures are small.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
import torch

from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import Prepared, prepare
from edgeml.recommending.evaluation import (
    mean_interval,
    paired_interval,
    ranking_metrics,
    recall_ceiling,
)
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import RetrievalModel, top_k
from edgeml.training.recommendation.retrieval_settings import TwoTowerSettings
from edgeml.workflows.recommendation_embeddings import fit_bpr, fit_two_tower, tower_features
from edgeml.workflows.recommendation_first_stage import (
    choose_retrieval,
    fit_systems,
    names_of,
    popularity_of,
)
from edgeml.workflows.recommendation_parts import (
    EvaluationPart,
    evaluation_part,
    histories_of,
)

DAYS = (0.0, 1.0, 2.0, 3.0)


def trained(prepared: Prepared, validation: EvaluationPart) -> dict[str, RetrievalModel]:
    """Return BPR and the two towers, stopped by the validation day."""
    sizes = {"num_users": len(prepared.user_ids), "num_items": prepared.num_items}
    histories = histories_of(prepared.train, **sizes)
    wanted = Histories.by_user(
        validation.relevant.users[validation.relevant.row_of_event],
        validation.relevant.items,
        num_users=sizes["num_users"],
    )
    bpr = fit_bpr(histories, wanted, num_items=prepared.num_items)
    say(f"bpr: validation NDCG@10 {bpr.validation_ndcg:.4f} at epoch {bpr.epoch}")
    features = prepared.features
    towers = fit_two_tower(
        histories,
        wanted,
        user_features=tower_features(features.users, num_rows=sizes["num_users"]),
        item_features=tower_features(features.items, num_rows=prepared.num_items),
        settings=TwoTowerSettings(batch=2048, max_epochs=20, look_every=1, code_dropout=0.5),
    )
    say(f"two_tower: validation NDCG@10 {towers.validation_ndcg:.4f} at epoch {towers.epoch}")
    return {"bpr": bpr.model, "two_tower": towers.model}


def main() -> None:
    """Fit, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    prepared = prepare(open_log("kuairand-pure"))
    sizes = {"num_users": len(prepared.user_ids), "num_items": prepared.num_items}
    validation, test = (evaluation_part(prepared, name) for name in ("validation", "test"))
    choice = choose_retrieval(prepared.train, validation, **sizes, in_time=True)
    say(json.dumps(choice.to_json()))
    systems = fit_systems(test.known, choice, **sizes)
    models: dict[str, Any] = {
        f"popularity, {f'last {days:g} days' if days else 'all time'}": popularity_of(
            test.known, prepared.num_items, days
        )
        for days in DAYS
    }
    models |= {name: model for name, model in names_of(systems) if name != "popularity"}
    models |= {"served vectors": systems.served} | trained(prepared, validation)
    per_user = {}
    say("| system | NDCG@10 | 95 % interval | Recall@10 | recall@500 |")
    say("|---|---|---|---|---|")
    for name, model in models.items():
        top = top_k(model, test.histories, 500, seen=test.seen).items
        figures = ranking_metrics(top, test.relevant)
        per_user[name] = figures["ndcg_at_10"]
        interval = mean_interval(per_user[name])
        say(
            f"| {name} | {interval.value:.4f} | {interval.low:.4f} to {interval.high:.4f} | "
            f"{np.nanmean(figures['recall_at_10']):.4f} | "
            f"{np.nanmean(recall_ceiling(top, test.relevant)):.4f} |"
        )
    best = max((name for name in models if "popularity" in name), key=lambda n: per_user[n].mean())
    for name in models:
        difference = paired_interval(per_user[name], per_user[best])
        say(
            f"{name} against {best}: {difference.value:+.4f} "
            f"({difference.low:+.4f} to {difference.high:+.4f})"
        )


def say(line: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
