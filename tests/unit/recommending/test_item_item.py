"""Closed-form systems: against their definitions on a log small enough to solve again."""

import numpy as np
import pytest

from edgeml.errors import InputError, ModelOutputError
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.item_item import Ease, ItemKnn, LinearFactors, Popularity
from edgeml.recommending.retrieval.model import best_columns, top_k
from tests.unit.recommending.logs import (
    NUM_ITEMS,
    NUM_USERS,
    share_of_own_taste,
    taste_histories,
    taste_log,
)


@pytest.fixture(scope="module")
def ease():
    users, items = taste_log()
    return Ease.fit(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS, l2=5.0)


def test_ease_columns_are_ridge_regressions_on_the_other_items(ease):
    has = taste_histories().matrix(NUM_ITEMS).astype(np.float64)
    for item in (1, 7):
        others = has.copy()
        others[:, item] = 0
        gram = others.T @ others + 5.0 * np.eye(NUM_ITEMS)
        expected = np.linalg.solve(gram, others.T @ has[:, item])
        expected[item] = 0
        np.testing.assert_allclose(ease.weights[:, item], expected, atol=1e-5)


def test_leave_one_out_scores_are_those_of_a_model_fitted_without_the_user(ease):
    histories = taste_histories()
    found = ease.leave_one_out_scores(histories)
    has = histories.matrix(NUM_ITEMS).astype(np.float64)
    for user, item in [(1, 1), (1, 2), (8, histories[8][0]), (30, histories[30][3])]:
        others = np.delete(has, user, axis=0)
        inputs = others.copy()
        inputs[:, item] = 0
        gram = inputs.T @ inputs + 5.0 * np.eye(NUM_ITEMS)
        weights = np.linalg.solve(gram, inputs.T @ others[:, item])
        weights[item] = 0
        assert found[user, item] == pytest.approx(has[user] @ weights, abs=1e-4)


def test_every_system_but_popularity_finds_the_users_taste(ease):
    users, items = taste_log()
    histories = taste_histories().rows(slice(1, None))
    knn = ItemKnn.fit(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS, neighbours=10)
    factors = LinearFactors.from_ease(ease, histories, rank=6)
    popular = Popularity.fit(items, num_items=NUM_ITEMS)
    shares = {
        model.kind: share_of_own_taste(top_k(model, histories, 3).items, histories.users)
        for model in (ease, knn, factors, popular)
    }
    assert min(shares["ease"], shares["item_knn"], shares["linear_factors"]) > 0.7
    assert shares["popularity"] < 0.5


def test_all_dimensions_are_ease_itself(ease):
    histories = taste_histories()
    factors = LinearFactors.from_ease(ease, histories, rank=NUM_ITEMS)
    np.testing.assert_allclose(
        factors.scores(histories)[:, 1:], ease.scores(histories)[:, 1:], atol=1e-4
    )


def test_an_item_counts_once_however_often_it_is_in_the_history(ease):
    twice, once = Histories.of([[3, 3, 5]]), Histories.of([[3, 5]])
    np.testing.assert_array_equal(ease.scores(twice), ease.scores(once))


def test_popularity_counts_by_weight():
    popular = Popularity.fit(np.array([1, 1, 2]), num_items=4, weights=np.array([0.1, 0.1, 1.0]))
    assert top_k(popular, Histories.of([[]]), 3).items.tolist() == [[2, 1, 3]]


def test_seen_and_forbidden_items_are_never_returned(ease):
    histories = taste_histories()
    allowed = np.arange(NUM_ITEMS) % 2 == 0
    top = top_k(ease, histories, NUM_ITEMS, allowed=allowed).items
    for user in range(NUM_USERS):
        found = set(top[user][top[user] > 0])
        assert found == set(np.flatnonzero(allowed)) - set(histories[user].tolist()) - {0}


def test_more_than_there_is_leaves_empty_places():
    popular = Popularity.fit(np.array([1, 2]), num_items=3)
    top = top_k(popular, Histories.of([[1], [1, 2]]), 50)
    assert top.items.tolist() == [[2, 0], [0, 0]]
    assert np.isneginf(top.scores[0, 1])


def test_ties_go_to_the_lower_code():
    top = best_columns(np.array([[0, 1, 2, 1, 1]], dtype=np.float32), 3)
    assert top.items.tolist() == [[2, 1, 3]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, rows: top_k(model, rows, 0), "at least 1"),
        (lambda model, rows: top_k(model, rows, 1, allowed=np.ones(2, bool)), "one entry an item"),
        (lambda model, rows: top_k(model, rows, 1, seen=Histories.of([])), "one row a request"),
        (lambda model, rows: top_k(model, Histories.of([[9]]), 1), "not below 3"),
    ],
)
def test_requests_that_do_not_fit_are_refused(call, words):
    popular = Popularity.fit(np.array([1, 2]), num_items=3)
    with pytest.raises(InputError, match=words):
        call(popular, Histories.of([[1]]))


def test_nan_scores_are_refused():
    broken = Popularity(counts=np.array([0, np.nan, 1], dtype=np.float32))
    with pytest.raises(ModelOutputError, match="popularity"):
        top_k(broken, Histories.of([[]]), 1)


def test_a_penalty_or_catalogue_that_cannot_be_solved_is_refused():
    log = {"users": np.array([1]), "items": np.array([1]), "num_users": 2}
    with pytest.raises(InputError, match="above zero"):
        Ease.fit(**log, num_items=2, l2=0.0)
    with pytest.raises(InputError, match="two-tower"):
        Ease.fit(**log, num_items=40_000)
