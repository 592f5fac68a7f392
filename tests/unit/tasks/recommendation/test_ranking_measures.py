"""Measures of a ranking, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from edgeml.tasks.recommendation.ranking_measures import (
    area_under_curve,
    mean_ndcg,
    mean_overlap,
)


def test_area_under_curve_is_scikit_learns_with_ties(rng):
    labels = rng.random(500) < 0.3
    scores = np.round(rng.normal(0, 1, 500) + labels, 1)
    assert area_under_curve(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_area_under_curve_of_one_class_is_no_number():
    assert np.isnan(area_under_curve(np.ones(4), np.arange(4.0)))


def test_mean_ndcg_is_scikit_learns(rng):
    labels, scores = (rng.random((30, 40)) < 0.1).astype(float), rng.random((30, 40))
    labels[:, 0] = 1
    groups = np.repeat(np.arange(30), 40)
    found = mean_ndcg(labels.ravel(), scores.ravel(), groups, k=10)
    assert found == pytest.approx(ndcg_score(labels, scores, k=10))


def test_groups_without_a_choice_do_not_count():
    labels, scores = np.array([1.0, 1, 0, 0, 1, 0]), np.array([1.0, 2, 3, 4, 9, 8])
    assert mean_ndcg(labels, scores, np.array([0, 0, 1, 1, 2, 2])) == 1.0
    assert np.isnan(mean_ndcg(labels[:2], scores[:2], np.array([0, 0])))


def test_overlap_counts_what_two_rankings_share():
    first = np.arange(12.0)
    second = first.copy()
    second[[0, 11]] = second[[11, 0]]
    assert mean_overlap(first, second, np.zeros(12, dtype=np.int64), k=10) == pytest.approx(0.9)
    assert np.isnan(mean_overlap(first, second, np.arange(12), k=10))
