"""How the stages share the score: what validation cannot tell apart is left to retrieval."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.recommending.pipeline import fuse
from edgeml.workflows.recommendation_ranker import _least_weight

ITEMS = np.array([7, 8, 9])
RETRIEVAL = np.array([3.0, 2.0, 1.0], dtype=np.float32)
RANKING = np.array([0.1, 0.2, 0.9], dtype=np.float32)


@pytest.mark.parametrize(("weight", "order"), [(0.0, [7, 8, 9]), (1.0, [9, 8, 7])])
def test_the_ends_of_the_weight_are_the_stages_themselves(weight: float, order: list[int]) -> None:
    fused = fuse(ITEMS, RETRIEVAL, RANKING, weight=weight, by_popularity=False)
    assert fused.items.tolist() == order
    assert (np.diff(fused.scores) <= 0).all()
    assert fused.ranking[fused.items == 9] == pytest.approx(0.9)


def test_scores_of_any_scale_are_fused_alike() -> None:
    first = fuse(ITEMS, RETRIEVAL, RANKING, weight=0.5, by_popularity=False)
    second = fuse(ITEMS, RETRIEVAL * 1000 - 5, RANKING, weight=0.5, by_popularity=False)
    assert np.allclose(first.scores, second.scores, atol=1e-4)
    flat = fuse(ITEMS, np.zeros(3, np.float32), RANKING, weight=0.5, by_popularity=False)
    assert flat.items.tolist() == [9, 8, 7]
    sure = fuse(
        ITEMS, RETRIEVAL, np.array([0.0, 1.0, 0.5], np.float32), weight=1, by_popularity=False
    )
    assert np.isfinite(sure.scores).all()


def test_a_gain_that_is_noise_is_left_to_retrieval() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    noise = {weight: base + rng.normal(0.001, 0.2, 400) for weight in (0.3, 1.0)}
    assert _least_weight({0.0: base, **noise}) == 0.0


def test_a_gain_that_is_real_is_taken() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    better = base + 0.05 + rng.normal(0, 0.1, 400)
    assert _least_weight({0.0: base, 0.5: base, 1.0: better}) == 1.0


def test_users_without_a_figure_do_not_count() -> None:
    base = np.array([0.1, np.nan, 0.2] * 50)
    assert _least_weight({0.0: base, 1.0: base + 0.3}) == 1.0
