"""One system's figures as they stand in a report, and the same from the files that were left."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.recommending.evaluation.beyond_accuracy import Array, beyond_accuracy
from edgeml.recommending.evaluation.impressions import impression_metrics
from edgeml.recommending.evaluation.intervals import mean_interval
from edgeml.recommending.evaluation.rankings import ranking_metrics
from edgeml.recommending.evaluation.records import SplitRecord, TopRecord
from edgeml.recommending.evaluation.segments import by_segment, history_segments
from edgeml.recommending.retrieval.histories import Histories, IntArray


def evaluate_system(
    top_items: IntArray,
    relevant: Histories,
    *,
    counts: Array,
    histories: Histories,
    item_vectors: Array | None = None,
    k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Return every figure of a system's lists.

    Args:
        top_items: int64 ``(users, at least k)`` item codes, best first, 0 being an empty place.
        relevant: Held-out items, one row a user.
        counts: ``(num_items,)``: interactions of each item in the training log.
        histories: The users' training items, for segments and the popularity bias.
        item_vectors: float ``(num_items, dimension)``: what makes two items alike.
        k: Places that count.
        seed: Of the bootstrap.

    Returns:
        ``ndcg_at_k``, ``recall_at_k``, ``hit_at_k``, ``mrr_at_k``, ``precision_at_k``, each with
        ``<name>_interval`` (95 %, users drawn); ``num_users`` judged; the figures of
        ``beyond_accuracy``; ``segments`` by length of history, NDCG and recall.

    Raises:
        InputError: The numbers of users differ or codes do not fit.
    """
    per_user = ranking_metrics(top_items, relevant, k=k)
    figures: dict[str, Any] = {}
    for name, values in per_user.items():
        interval = mean_interval(values, seed=seed)
        figures[name] = interval.value
        figures[f"{name}_interval"] = [interval.low, interval.high]
    judged = relevant.lengths > 0
    figures["num_users"] = int(judged.sum())
    figures |= beyond_accuracy(
        top_items[judged, :k],
        counts=counts,
        item_vectors=item_vectors,
        histories=histories.rows(judged),
    )
    chosen = {name: per_user[name] for name in (f"ndcg_at_{k}", f"recall_at_{k}")}
    figures["segments"] = by_segment(chosen, history_segments(histories), seed=seed)
    return figures


def recompute(split: SplitRecord, top: TopRecord, *, k: int = 10) -> dict[str, dict[str, Any]]:
    """Compute the figures of every system again from ``split.npz`` and ``top10.npz``.

    Args:
        split: Who had what.
        top: What the systems answered.
        k: Places that count.

    Returns:
        System to figures; those of impressions where scores were left too.
    """
    train, relevant = split.histories("train").rows(top.users), split.histories("test")
    counts = np.bincount(split.parts["train"][1], minlength=len(split.item_ids))
    counts[0] = 0
    figures = {
        system: evaluate_system(
            items, relevant.rows(top.users), counts=counts, histories=train, k=k
        )
        for system, items in top.lists.items()
    }
    for system, scores in top.scores.items():
        found = impression_metrics(top.impression_users, top.impression_labels, scores)
        figures.setdefault(system, {}).update(found)
    return figures
