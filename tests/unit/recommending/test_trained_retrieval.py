"""BPR and the two towers: learned in torch, answered in numpy, saved and loaded."""

import numpy as np
import pytest
import torch

from edgeml.errors import BundleError, DataError, InputError
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.item_item import Ease, ItemKnn, LinearFactors, Popularity
from edgeml.recommending.retrieval.model import top_k
from edgeml.recommending.retrieval.storing import load_model, save_model
from edgeml.training.recommendation.best_so_far import BestSoFar
from edgeml.training.recommendation.bpr import train_bpr
from edgeml.training.recommendation.retrieval_settings import BprSettings, TwoTowerSettings
from edgeml.training.recommendation.two_tower import InteractionPairs, _Towers, train_two_tower
from edgeml.workflows.recommendation_embeddings import fit_bpr, fit_two_tower, two_tower_model
from tests.unit.recommending.logs import (
    GROUPS,
    NUM_ITEMS,
    NUM_USERS,
    share_of_own_taste,
    taste_histories,
    taste_log,
)

BPR = BprSettings(dimension=8, learning_rate=0.03, batch=128, max_epochs=20, look_every=10)
TWO_TOWER = TwoTowerSettings(
    width=8, hidden=16, dimension=8, batch=128, max_epochs=20, look_every=10, dropout=0.0
)
ANYBODY = slice(1, None)


def tastes(count):
    """One column a taste: what is known of users and items beside their codes."""
    return np.eye(GROUPS, dtype=np.float32)[np.arange(count) % GROUPS]


def item_tastes():
    features = np.zeros((NUM_ITEMS, GROUPS), np.float32)
    features[1:] = np.eye(GROUPS)[(np.arange(1, NUM_ITEMS) - 1) % GROUPS]
    return features


def nothing(count):
    return np.zeros((count, 0), np.float32)


@pytest.fixture(scope="module")
def bpr():
    return fit_bpr(taste_histories(), taste_histories(seed=1), num_items=NUM_ITEMS, settings=BPR)


@pytest.fixture(scope="module")
def two_tower():
    return fit_two_tower(
        taste_histories(),
        taste_histories(seed=1),
        user_features=nothing(NUM_USERS),
        item_features=item_tastes(),
        settings=TWO_TOWER,
    )


@pytest.mark.parametrize("name", ["bpr", "two_tower"])
def test_users_get_their_taste_by_code_and_by_history(name, request):
    trained = request.getfixturevalue(name)
    known = taste_histories().rows(ANYBODY)
    assert share_of_own_taste(top_k(trained.model, known, 3).items, known.users) > 0.7
    strangers = Histories(
        offsets=known.offsets, items=known.items, users=np.zeros_like(known.users)
    )
    # A vector by folding in is a guess of what training would have given; chance is a quarter.
    assert share_of_own_taste(top_k(trained.model, strangers, 3).items, known.users) > 0.5
    assert trained.epoch in (10, 20)
    assert 0 < trained.validation_ndcg < 1


def test_a_code_beyond_the_table_is_a_stranger(bpr, two_tower):
    row = Histories.of([[1, 5, 9]], users=[10_000])
    anybody = Histories.of([[1, 5, 9]])
    for trained in (bpr, two_tower):
        np.testing.assert_array_equal(trained.model.scores(row), trained.model.scores(anybody))
        assert np.isfinite(trained.model.scores(Histories.of([[]]))[:, 1:]).all()


def test_a_cold_item_is_placed_by_its_features(two_tower):
    """Items that training never saw stand beside those of their taste."""
    model = two_tower.model
    cold = model.cold_item_vectors(np.eye(GROUPS, dtype=np.float32))
    warm = np.stack([model.item_vectors[1:][group::GROUPS].mean(axis=0) for group in range(GROUPS)])
    assert ((cold @ warm.T).argmax(axis=1) == np.arange(GROUPS)).all()
    with pytest.raises(InputError, match="wanted"):
        model.cold_item_vectors(np.zeros((1, GROUPS + 1), np.float32))
    with pytest.raises(InputError, match="NaN"):
        model.cold_item_vectors(np.full((1, GROUPS), np.nan, np.float32))


def test_a_cold_user_is_placed_by_features():
    histories = taste_histories()
    warm = np.arange(NUM_USERS) <= 40
    log = histories.rows(np.arange(NUM_USERS) * warm)  # users above 40 are not in the log
    trained = fit_two_tower(
        Histories(offsets=log.offsets, items=log.items, users=histories.users),
        histories,
        user_features=tastes(NUM_USERS),
        item_features=nothing(NUM_ITEMS),
        settings=TWO_TOWER,
    )
    cold = np.arange(41, NUM_USERS)
    nobody_yet = Histories.of([[]] * cold.size, users=cold)
    assert share_of_own_taste(top_k(trained.model, nobody_yet, 3).items, cold) > 0.7


def test_numpy_answers_what_torch_computes():
    pairs = InteractionPairs.of(
        *taste_log(), user_features=tastes(NUM_USERS), item_features=item_tastes()
    )
    torch.manual_seed(0)
    towers = _Towers(pairs, TWO_TOWER)
    arrays = towers.arrays()
    users = torch.arange(1, NUM_USERS)
    with torch.no_grad():
        # An item outside the history is taken off nothing: the query of serving.
        expected = towers._user_vectors(
            users, torch.zeros_like(users), torch.zeros(len(users)), towers._history(users)
        )
    found = two_tower_model(arrays).user_vectors(taste_histories().rows(ANYBODY))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_row_is_not_predicted_from_itself():
    """With one event a user, the history of every training row is empty."""
    pairs = InteractionPairs.of(
        np.array([1, 2]),
        np.array([3, 4]),
        user_features=nothing(3),
        item_features=nothing(5),
    )
    towers = _Towers(pairs, TWO_TOWER).eval()
    with torch.no_grad():
        towers.user_table[:] = 0
        queries = towers._user_vectors(
            towers.users, towers.items, towers.in_history, towers._history(towers.users)
        )
    np.testing.assert_allclose(queries[0], queries[1], atol=1e-6)


def test_the_popularity_correction_counts():
    """Without it the softmax shuns what is popular: the correction makes popular items score up."""
    users = np.repeat(np.arange(1, 201), 2)
    items = np.where(np.arange(400) % 2 == 0, 1, 2 + np.arange(400) // 2 % 20)
    pairs = InteractionPairs.of(users, items, user_features=nothing(201), item_features=nothing(22))
    settings = TwoTowerSettings(
        width=8, hidden=16, dimension=8, batch=100, max_epochs=15, temperature=0.2
    )
    best = train_two_tower(pairs, settings=settings)
    scores = two_tower_model(best.best).scores(Histories.of([[2], [9]]))
    assert (scores[:, 1:].argmax(axis=1) == 0).all()


def test_the_same_seed_gives_the_same_model(bpr):
    again = fit_bpr(taste_histories(), taste_histories(seed=1), num_items=NUM_ITEMS, settings=BPR)
    np.testing.assert_array_equal(again.model.item_vectors, bpr.model.item_vectors)


def test_every_model_comes_back_from_its_file(bpr, two_tower, tmp_path):
    users, items = taste_log()
    sizes = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    ease = Ease.fit(users, items, **sizes, l2=5.0)
    histories = taste_histories()
    models = [
        ease,
        ItemKnn.fit(users, items, **sizes),
        LinearFactors.from_ease(ease, histories, rank=4),
        Popularity.fit(items, num_items=NUM_ITEMS),
        bpr.model,
        two_tower.model,
    ]
    for model in models:
        path = tmp_path / f"{model.kind}.npz"
        save_model(model, path)
        loaded = load_model(path)
        assert loaded.kind == model.kind
        np.testing.assert_array_equal(loaded.scores(histories), model.scores(histories))


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    with pytest.raises(BundleError, match="no retrieval model"):
        load_model(path)
    np.savez(path, kind=np.array("oracle"))
    with pytest.raises(BundleError, match="no retrieval model"):
        load_model(path)
    np.savez(path, kind=np.array("popularity"), counts=np.array([np.nan]))
    with pytest.raises(BundleError, match="NaN"):
        load_model(path)
    np.savez(path, kind=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError, match="no retrieval model"):
        load_model(path)


def test_logs_and_settings_that_cannot_be_trained_on_are_refused():
    nobody = {"users": np.array([0]), "items": np.array([1])}
    with pytest.raises(DataError, match="no row"):
        train_bpr(**nobody, num_users=2, num_items=2)
    with pytest.raises(DataError, match="no row"):
        InteractionPairs.of(**nobody, user_features=nothing(1), item_features=nothing(2))
    with pytest.raises(InputError, match="NaN"):
        InteractionPairs.of(
            **nobody, user_features=np.full((1, 1), np.inf), item_features=nothing(2)
        )
    with pytest.raises(InputError, match="no row among 1"):
        InteractionPairs.of(**nobody, user_features=nothing(1), item_features=nothing(1))
    with pytest.raises(InputError, match="learning_rate"):
        BprSettings(learning_rate=0.0)


def test_training_keeps_the_best_and_stops():
    figures = iter([0.1, 0.3, 0.2, 0.25])
    best = BestSoFar[str](judge=lambda _: next(figures), patience=2)
    for epoch, candidate in enumerate("abcd", start=1):
        assert not best.stop
        best.look(candidate, epoch=epoch)
    assert (best.best, best.figure, best.epoch, best.stop) == ("b", 0.3, 2, True)
