"""Which stage loses what: the NDCG that is gone after retrieval, index, ranking and re-ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.recommending.evaluation.intervals import Interval, mean_interval
from edgeml.recommending.evaluation.rankings import hits_of, ranking_metrics
from edgeml.recommending.retrieval.histories import Histories, IntArray


@dataclass(frozen=True, kw_only=True)
class StageLoss:
    """What one stage costs.

    Attributes:
        stage: Its name.
        ndcg: Mean NDCG that is left after it.
        loss: Mean NDCG that it took, with an interval over users; negative where it gained.
    """

    stage: str
    ndcg: float
    loss: Interval


def stage_losses(
    relevant: Histories,
    *,
    candidates: Mapping[str, IntArray],
    rankings: Mapping[str, IntArray],
    k: int = 10,
    seed: int = 0,
) -> list[StageLoss]:
    """Attribute the distance from a perfect top-k to the stages, in their order.

    A stage that only hands candidates on is judged by the best order that they allow, so it is
    charged for what it left out and not for its order; the first ranking is charged for the rest.
    The losses add up to one minus the last stage's NDCG.

    Args:
        relevant: Held-out items, one row a user.
        candidates: Stage to int64 ``(users, candidates)``: for instance exhaustive retrieval,
            then the index.
        rankings: Stage to int64 ``(users, at least k)``, best first: for instance the ranker's
            order, then the re-ranked one.
        k: Places that count.
        seed: Of the bootstrap.

    Raises:
        InputError: No stage is given, or its number of users is another one.
    """
    if not candidates and not rankings:
        raise InputError("no stage to judge; candidates or rankings were expected")
    left = {name: _best_ndcg(items, relevant, k) for name, items in candidates.items()}
    for name, items in rankings.items():
        left[name] = ranking_metrics(items, relevant, k=k)[f"ndcg_at_{k}"]
    before = np.where(relevant.lengths > 0, 1.0, np.nan)
    losses = []
    for name, now in left.items():
        losses.append(
            StageLoss(
                stage=name,
                ndcg=float(np.nanmean(now)),
                loss=mean_interval(before - now, seed=seed),
            )
        )
        before = now
    return losses


def _best_ndcg(candidates: IntArray, relevant: Histories, k: int) -> npt.NDArray[np.float64]:
    """Return the NDCG of the candidates in the best order, relevant ones first."""
    found = hits_of(candidates, relevant).sum(axis=1)
    reached = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    wanted = relevant.distinct().lengths
    best = reached[np.minimum(wanted, k)]
    value = reached[np.minimum(found, k)] / np.where(best > 0, best, 1)
    return np.where(wanted > 0, value, np.nan)
