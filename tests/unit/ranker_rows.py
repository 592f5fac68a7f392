"""Small ranking rows with a pattern to learn, for the tests of rankers."""

import numpy as np

from edgeml.tasks.recommendation.ranking import Head, IdField, RankingFields, RankingRows

FIELDS = RankingFields(
    request_ids=(IdField(name="tab", size=4), IdField(name="hour", size=25)),
    request_numbers=("user_rate",),
    candidate_ids=(IdField(name="item", size=40), IdField(name="author", size=9)),
    candidate_numbers=("item_rate", "retrieval_score"),
    crosses=(("tab", "author"),),
    heads=(Head(name="positive"), Head(name="click"), Head(name="watch_time", kind="amount")),
)


def ranker_rows(count: int, *, seed: int = 0, group_size: int = 20) -> RankingRows:
    """Rows whose first label follows a number, an author, and a cross of tab and author."""
    rng = np.random.default_rng(seed)
    groups = np.arange(count) // group_size
    num_groups = int(groups[-1]) + 1
    tab, hour = rng.integers(1, 4, num_groups), rng.integers(1, 25, num_groups)
    rate = rng.normal(0.3, 0.2, num_groups)
    author = rng.integers(1, 9, count)
    item = 1 + (author * 4 + rng.integers(0, 4, count)) % 39
    numbers = rng.normal(0, 1, (count, 2)).astype(np.float32)
    odds = 1.5 * numbers[:, 1] + (author % 2) - 1 + 1.0 * (tab[groups] == author % 4)
    positive = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    click = np.maximum(positive, rng.random(count) < 0.2).astype(np.float32)
    watch = (positive * 2 + rng.random(count)).astype(np.float32)
    click[::7] = np.nan
    return RankingRows(
        request_ids=np.stack([tab, hour], 1)[groups].astype(np.int64),
        request_numbers=rate[groups, None].astype(np.float32),
        candidate_ids=np.stack([item, author], 1).astype(np.int64),
        candidate_numbers=numbers,
        labels={"positive": positive, "click": click, "watch_time": watch},
        groups=groups.astype(np.int64),
    )
