"""Seeded texts as token ids: each topic has words of its own among those that all share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WORDS = 40


def draw_topics(
    count: int, *, length: int, vocabulary: int, topics: int, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw texts.

    Args:
        count: Texts.
        length: Tokens of each.
        vocabulary: Ids; the first ones are the topics' words.
        topics: Classes.
        share: Share of a text's tokens that are its topic's words.
        seed: Seed of everything.

    Returns:
        int64 ``(count, length)`` and int64 ``(count,)``. A second topic is mixed into each text,
        from not at all to as strongly as its own, so that some are hard.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, topics, count)
    strays = (labels + rng.integers(1, topics, count)) % topics
    common = topics * _WORDS + rng.geometric(8 / vocabulary, (count, length)) - 1
    tokens = np.minimum(common, vocabulary - 1)
    draw = rng.random((count, length))
    stray = share + share * rng.uniform(0, 1, (count, 1))
    words = rng.integers(0, _WORDS, (count, length))
    tokens = np.where(draw < stray, strays[:, None] * _WORDS + words, tokens)
    tokens = np.where(draw < share, labels[:, None] * _WORDS + words, tokens)
    return tokens.astype(np.int64), labels.astype(np.int64)
