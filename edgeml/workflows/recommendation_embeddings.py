"""Train the vector models of retrieval: torch learns, numpy answers, validation stops.

This is where training and the run time meet: arrays that were learned become retrieval models,
and the figure that stops the training is the one that reports show: NDCG@10 of a full ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.recommending.evaluation import ranking_metrics
from edgeml.recommending.retrieval.embeddings import BprModel, Layer, TwoTowerModel
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.model import RetrievalModel, top_k
from edgeml.tasks.recommendation.tables import EncodedTable
from edgeml.training.recommendation.bpr import BprArrays, train_bpr
from edgeml.training.recommendation.retrieval_settings import BprSettings, TwoTowerSettings
from edgeml.training.recommendation.two_tower import (
    InteractionPairs,
    TwoTowerArrays,
    train_two_tower,
)

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TrainedRetrieval:
    """A trained retrieval model and how it came about.

    Attributes:
        model: Answers without torch.
        validation_ndcg: Its NDCG@10 on the validation part.
        epoch: The epoch that it is from.
    """

    model: Any
    validation_ndcg: float
    epoch: int


def fit_bpr(
    histories: Histories,
    validation: Histories,
    *,
    num_items: int,
    settings: BprSettings | None = None,
) -> TrainedRetrieval:
    """Train matrix factorisation by BPR, stopped by validation.

    Args:
        histories: The training log, one row a user code.
        validation: Held-out items, one row a user code.
        num_items: Item codes.
        settings: Sizes and schedule.
    """
    best = train_bpr(
        histories.row_of_event,
        histories.items,
        num_users=len(histories),
        num_items=num_items,
        settings=settings,
        judge=_judge(bpr_model, histories, validation),
    )
    assert best.best is not None
    return TrainedRetrieval(
        model=bpr_model(best.best), validation_ndcg=best.figure, epoch=best.epoch
    )


def fit_two_tower(
    histories: Histories,
    validation: Histories,
    *,
    user_features: FloatArray,
    item_features: FloatArray,
    settings: TwoTowerSettings | None = None,
) -> TrainedRetrieval:
    """Train the two towers, stopped by validation.

    Args:
        histories: The training log, one row a user code.
        validation: Held-out items, one row a user code.
        user_features: float32 ``(num_users, features)``; row 0 stands for anybody.
        item_features: float32 ``(num_items, features)``.
        settings: Sizes and schedule.
    """
    pairs = InteractionPairs.of(
        histories.row_of_event,
        histories.items,
        user_features=user_features,
        item_features=item_features,
    )
    best = train_two_tower(
        pairs, settings=settings, judge=_judge(two_tower_model, histories, validation)
    )
    assert best.best is not None
    return TrainedRetrieval(
        model=two_tower_model(best.best), validation_ndcg=best.figure, epoch=best.epoch
    )


def tower_features(table: EncodedTable, *, num_rows: int, max_codes: int = 256) -> FloatArray:
    """Return a table's columns as a tower reads them: each code a column of zeros and ones.

    Columns of more codes than ``max_codes`` are left out (an author of whom there are thousands);
    numbers come by their quantiles. Unknown values are all zeros.

    Args:
        table: Features by user or item code.
        num_rows: Rows to give: the number of codes; the table may know more or fewer.
        max_codes: Codes that a column may have.

    Returns:
        float32 ``(num_rows, columns)``.
    """
    columns = []
    for codes in table.ids.T:
        size = int(codes.max(initial=0)) + 1
        if size <= max_codes:
            known = np.zeros(num_rows, dtype=np.int64)
            known[: len(codes)] = codes[:num_rows]
            columns.append(np.eye(size, dtype=np.float32)[known][:, 1:])
    return np.concatenate(columns, axis=1) if columns else np.zeros((num_rows, 0), np.float32)


def bpr_model(arrays: BprArrays) -> BprModel:
    """Return the model that answers with these arrays."""
    return BprModel(
        user_table=arrays.user_table, item_vectors=arrays.item_vectors, known=arrays.known
    )


def two_tower_model(arrays: TwoTowerArrays) -> TwoTowerModel:
    """Return the model that answers with these arrays."""
    towers = [
        tuple(Layer(weight=weight, bias=bias) for weight, bias in layers)
        for layers in (arrays.user_layers, arrays.item_layers)
    ]
    (user_hidden, user_last), (item_hidden, item_last) = towers
    return TwoTowerModel(
        user_table=arrays.user_table,
        event_table=arrays.event_table,
        user_features=arrays.user_features,
        user_layers=(user_hidden, user_last),
        item_vectors=arrays.item_vectors,
        unknown_item=arrays.unknown_item,
        item_layers=(item_hidden, item_last),
    )


def _judge(
    as_model: Callable[[Any], RetrievalModel], histories: Histories, validation: Histories
) -> Callable[[Any], float]:
    judged = np.flatnonzero(validation.lengths)
    known, wanted = histories.rows(judged), validation.rows(judged)

    def judge(arrays: Any) -> float:
        top = top_k(as_model(arrays), known, 10)
        return float(np.nanmean(ranking_metrics(top.items, wanted)["ndcg_at_10"]))

    return judge
