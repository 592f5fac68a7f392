"""Logged impressions as a ranker's rows: features as of each impression, and what came of it.

What is measured on them is conditioned on the policy that chose what was shown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.preparing import Prepared
from edgeml.tasks.recommendation.ranking import RankingRows


def impression_rows(prepared: Prepared, rows: npt.NDArray[np.int64]) -> RankingRows:
    """Return a ranker's rows for some of a log's rows.

    Args:
        prepared: The log; each row's features come from all rows strictly before its moment,
            whatever part they are in, as they would be known when it is served.
        rows: int64 ``(rows,)``, such as ``prepared.split.train``.
    """
    features = prepared.features
    known = features.index(prepared.events)
    events = prepared.events.take(rows)
    request_ids, request_numbers = features.request_part(
        known, events.users, events.times_ms, prepared.context_ids[rows]
    )
    candidate_ids, candidate_numbers = features.candidate_part(
        known, known, events.users, events.items, events.times_ms
    )
    labels = {"positive": events.positive.astype(np.float32)}
    for name, kind in features.signals:
        values = events.signals[name]
        labels[name] = np.log1p(np.maximum(values, 0)) if kind == "amount" else values
    return RankingRows(
        request_ids=request_ids,
        request_numbers=request_numbers,
        candidate_ids=candidate_ids,
        candidate_numbers=candidate_numbers,
        labels=labels,
        groups=events.users,
    )
