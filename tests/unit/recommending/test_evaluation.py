"""Figures against values worked out by hand, and against their definitions on random data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.errors import DataError, InputError
from edgeml.recommending.evaluation import (
    SplitRecord,
    TopRecord,
    auc,
    auc_interval,
    beyond_accuracy,
    by_segment,
    evaluate_system,
    gauc,
    history_segments,
    impression_metrics,
    log_loss,
    mean_interval,
    means,
    paired_interval,
    ranking_metrics,
    read_split,
    read_top,
    recall_ceiling,
    recompute,
    stage_losses,
    write_split,
    write_top,
)
from edgeml.recommending.evaluation.beyond_accuracy import gini
from edgeml.recommending.evaluation.segments import only_items, popular_items
from edgeml.recommending.retrieval.histories import Histories

TOP = np.array([[4, 2, 9, 1], [5, 6, 7, 8], [1, 2, 3, 0], [1, 2, 3, 4]])
RELEVANT = Histories.of([[2, 1, 30, 31, 32], [9], [1, 2], []])


def test_ranking_figures_by_hand():
    """RecBole's definitions: gain 1, ideal over min(k, relevant), MRR of the first hit."""
    figures = ranking_metrics(TOP, RELEVANT, k=4)
    log2 = np.log2
    ideal = 1 + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)
    expected = {
        "ndcg_at_4": [(1 / log2(3) + 1 / log2(5)) / ideal, 0, 1, np.nan],
        "recall_at_4": [2 / 5, 0, 1, np.nan],
        "hit_at_4": [1, 0, 1, np.nan],
        "mrr_at_4": [1 / 2, 0, 1, np.nan],
        "precision_at_4": [2 / 4, 0, 2 / 4, np.nan],
    }
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(figures[name], values, err_msg=name)
    assert means(figures)["recall_at_4"] == pytest.approx((0.4 + 0 + 1) / 3)


def test_an_item_that_the_catalogue_lacks_is_a_miss_and_a_repeat_counts_once():
    far = ranking_metrics(np.array([[1, 2]]), Histories.of([[1, 99_999]]), k=2)
    assert far["recall_at_2"].tolist() == [0.5]
    twice = ranking_metrics(np.array([[1, 2]]), Histories.of([[1, 1]]), k=2)
    assert (twice["recall_at_2"][0], twice["ndcg_at_2"][0]) == (1, 1)


def test_rankings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="at least k"):
        ranking_metrics(TOP, RELEVANT, k=5)
    with pytest.raises(InputError, match="one row a user"):
        ranking_metrics(TOP[:2], RELEVANT, k=2)
    with pytest.raises(InputError, match="twice"):
        ranking_metrics(np.array([[1, 1]]), Histories.of([[1]]), k=2)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 4)), min_size=1, max_size=30
)


def pairs_right(labels, scores):
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not positive.size or not negative.size:
        return float("nan")
    difference = positive[:, None] - negative
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


@given(ROWS)
def test_auc_is_the_share_of_pairs_in_order_overall_and_within_users(rows):
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    scores = scores.astype(np.float32)
    np.testing.assert_allclose(auc(labels, scores), pairs_right(labels, scores))
    values, weights = [], []
    for user in np.unique(users):
        chosen = users == user
        value = pairs_right(labels[chosen], scores[chosen])
        if np.isfinite(value):
            values.append(value)
            weights.append(chosen.sum())
    expected = np.average(values, weights=weights) if values else float("nan")
    np.testing.assert_allclose(gauc(users, labels, scores), expected)


@given(ROWS)
def test_a_weight_counts_a_row_that_often(rows):
    _, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    times = np.arange(labels.size) % 3
    repeated = auc(labels, scores, weights=times)
    if times.sum():
        expected = pairs_right(np.repeat(labels, times), np.repeat(scores, times))
        np.testing.assert_allclose(repeated, expected)


def test_log_loss_by_hand_and_what_impressions_are_conditioned_on():
    labels, probabilities = np.array([1, 0]), np.array([0.8, 0.4])
    assert log_loss(labels, probabilities) == pytest.approx(-np.log(0.8 * 0.6) / 2)
    assert np.isfinite(log_loss(labels, np.array([0.0, 1.0])))
    figures = impression_metrics(
        np.array([1, 1]), labels, probabilities, probabilities=probabilities
    )
    assert "logging policy" in figures["conditioned_on"]
    assert (figures["auc"], figures["gauc"], figures["positive_rate"]) == (1.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 2], [0.1, 0.2], "neither 0 nor 1"),
        ([0, 1], [0.1, np.nan], "NaN"),
        ([0], [0.1, 0.2], "one length"),
        ([], [], "non-empty"),
    ],
)
def test_impressions_that_do_not_fit_are_refused(labels, scores, words):
    with pytest.raises(InputError, match=words):
        auc(np.array(labels), np.array(scores))
    with pytest.raises(InputError, match="outside 0 to 1"):
        log_loss(np.array([1]), np.array([1.5]))


def test_intervals_hold_the_mean_and_shrink_with_users():
    rng = np.random.default_rng(0)
    few, many = (mean_interval(rng.standard_normal(size), seed=1) for size in (50, 5_000))
    for interval in (few, many):
        assert interval.low < interval.value < interval.high
    width = few.high - few.low
    assert width / (many.high - many.low) == pytest.approx(10, rel=0.3)
    assert width == pytest.approx(4 / np.sqrt(50), rel=0.3)
    assert mean_interval(np.array([1.0, np.nan, 1.0])).value == 1


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    users = rng.standard_normal(300)
    better = users + 0.05 + 0.01 * rng.standard_normal(300)
    assert paired_interval(better, users).low > 0
    assert mean_interval(better).low < mean_interval(users).high
    with pytest.raises(InputError, match="same users"):
        paired_interval(users, users[:2])
    with pytest.raises(InputError, match="no user"):
        mean_interval(np.array([np.nan]))


def test_rows_of_one_user_are_drawn_together():
    """A hundred copies of each row are no more evidence, while rows drawn alone would say so."""
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.random(60)
    users = np.arange(60)
    once = auc_interval(users, labels, scores, resamples=200)
    often = auc_interval(
        np.repeat(users, 100), np.repeat(labels, 100), np.repeat(scores, 100), resamples=200
    )
    assert (often.low, often.high) == (once.low, once.high)
    same = auc_interval(users, labels, scores, baseline=scores, resamples=20)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_beyond_accuracy_by_hand():
    counts = np.array([0, 6, 2, 0, 0])
    top = np.array([[1, 2], [1, 3], [1, 0]])
    vectors = np.array([[0, 0], [1, 0], [1, 0], [0, 1], [1, 1]], dtype=float)
    figures = beyond_accuracy(
        top, counts=counts, item_vectors=vectors, histories=Histories.of([[1], [2], [2]])
    )
    assert figures["coverage"] == 3 / 4
    assert figures["gini"] == pytest.approx(gini(np.array([3, 1, 1, 0])))
    shares = np.array([7, 3, 7, 1, 7]) / 12
    assert figures["novelty"] == pytest.approx(-np.log2(shares).mean())
    assert figures["intra_list_diversity"] == pytest.approx((0 + 1) / 2)
    assert figures["popularity_bias"] == pytest.approx((6 + 2 + 6 + 0 + 6) / 5 / (10 / 3) - 1)
    with pytest.raises(InputError, match="outside"):
        beyond_accuracy(np.array([[9]]), counts=counts)


def test_losses_of_the_stages_add_up():
    relevant = Histories.of([[1, 2], [3], []])
    losses = stage_losses(
        relevant,
        candidates={"retrieval": np.array([[9, 2, 1], [4, 5, 6], [1, 2, 3]])},
        rankings={
            "ranking": np.array([[2, 9], [4, 5], [1, 2]]),
            "re-ranking": np.array([[9, 2], [4, 5], [1, 2]]),
        },
        k=2,
    )
    assert [loss.stage for loss in losses] == ["retrieval", "ranking", "re-ranking"]
    assert losses[0].ndcg == 0.5  # the first user's items are all there, the second's are not
    assert sum(loss.loss.value for loss in losses) == pytest.approx(1 - losses[-1].ndcg)
    assert all(loss.loss.value > 0 for loss in losses)
    np.testing.assert_array_equal(
        recall_ceiling(np.array([[2, 8], [3, 4], [1, 2]]), relevant), [0.5, 1, np.nan]
    )


def test_segments_of_users_and_of_items():
    values = {"ndcg": np.array([0.2, 0.4, np.nan, 1.0])}
    rows = by_segment(values, np.array(["new", "new", "new", "old"]))
    assert rows["new"]["num_users"] == 2
    assert rows["new"]["ndcg"] == pytest.approx(0.3)
    assert rows["old"]["ndcg_interval"] == [1, 1]
    names = history_segments(Histories.of([[], [1], [1] * 6, [1] * 101]))
    assert names.tolist() == ["0 items", "1-5 items", "6-20 items", "over 100 items"]
    popular = popular_items(np.array([0, 80, 15, 5]))
    assert popular.tolist() == [False, True, False, False]
    tail = only_items(Histories.of([[1, 2], [3, 99]]), ~popular)
    assert [tail[0].tolist(), tail[1].tolist()] == [[2], [3]]


def test_every_figure_comes_back_from_the_files(tmp_path):
    rng = np.random.default_rng(0)
    split = SplitRecord(
        parts={
            part: (rng.integers(1, 20, rows), rng.integers(1, 30, rows))
            for part, rows in (("train", 200), ("validation", 20), ("test", 60))
        },
        user_ids=["", *(f"user {code}" for code in range(1, 20))],
        item_ids=["", *(f"item {code}" for code in range(1, 30))],
    )
    users = np.arange(1, 20)
    lists = np.array([rng.permutation(np.arange(1, 30))[:10] for _ in users])
    top = TopRecord(
        users=users,
        lists={"retrieval": lists},
        impression_users=users,
        impression_labels=users % 2,
        scores={"end_to_end": rng.random(19).astype(np.float32)},
    )
    write_split(tmp_path / "split.npz", split)
    write_top(tmp_path / "top10.npz", top)
    found = recompute(read_split(tmp_path / "split.npz"), read_top(tmp_path / "top10.npz"))
    counts = np.bincount(split.parts["train"][1], minlength=30)
    assert found["retrieval"] == evaluate_system(
        lists,
        split.histories("test").rows(users),
        counts=counts,
        histories=split.histories("train").rows(users),
    )
    assert found["end_to_end"]["auc"] == auc(users % 2, top.scores["end_to_end"])
    assert found["retrieval"]["ndcg_at_10_interval"][0] < found["retrieval"]["ndcg_at_10"]
    assert split.histories("train", "validation").items.size == 220


def test_files_that_are_no_record_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "missing.npz")
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_top(tmp_path / "other.npz")
    np.savez(tmp_path / "empty.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="lacks"):
        read_split(tmp_path / "empty.npz")
    with pytest.raises(DataError, match="lacks"):
        read_top(tmp_path / "empty.npz")
