"""Small interaction logs with structure, for the tests of retrieval."""

import numpy as np

from edgeml.recommending.retrieval.histories import Histories

NUM_USERS, NUM_ITEMS, GROUPS = 61, 41, 4


def taste_log(seed: int = 0, events: int = 12):
    """Users and items belong to one of four tastes; nine of ten events stay within the taste."""
    rng = np.random.default_rng(seed)
    users, items = [], []
    for user in range(1, NUM_USERS):
        for _ in range(events):
            group = user % GROUPS if rng.random() < 0.9 else rng.integers(GROUPS)
            users.append(user)
            items.append(1 + group + GROUPS * rng.integers((NUM_ITEMS - 1) // GROUPS))
    return np.array(users), np.array(items)


def taste_histories(seed: int = 0, events: int = 12) -> Histories:
    users, items = taste_log(seed, events)
    return Histories.by_user(users, items, num_users=NUM_USERS).distinct()


def share_of_own_taste(top_items, users):
    """How many of the recommended items are of the user's taste."""
    return float(np.mean((top_items - 1) % GROUPS == np.asarray(users)[:, None] % GROUPS))
