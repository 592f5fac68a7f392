"""Re-ranking: against brute force, at both ends of the trade-off, and on input that is unusable."""

from itertools import combinations

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.recommending.reranking import rerank_by_determinant, rerank_by_margin

BOTH = pytest.mark.parametrize("rerank", [rerank_by_margin, rerank_by_determinant])


def _candidates(rng, count=40, dimensions=8):
    return rng.random(count), rng.normal(0, 1, (count, dimensions))


def _likeness(vectors, picked):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.mean([unit[a] @ unit[b] for a, b in combinations(picked, 2)]))


@BOTH
def test_a_weight_of_one_keeps_the_order_of_the_scores(rerank, rng):
    scores, vectors = _candidates(rng)
    picked = rerank(scores, vectors, k=12, weight=1.0)
    np.testing.assert_array_equal(picked, np.argsort(-scores, kind="stable")[:12])


@BOTH
def test_less_weight_means_less_likeness_and_less_relevance(rerank, rng):
    # Of no negative likeness, which a volume would count as much as a positive one.
    scores, vectors = rng.random(200), rng.random((200, 8)) ** 3
    lists = [rerank(scores, vectors, k=10, weight=weight) for weight in (1.0, 0.7, 0.0)]
    likeness = [_likeness(vectors, picked) for picked in lists]
    relevance = [scores[picked].mean() for picked in lists]
    assert likeness[0] > likeness[1] > likeness[2]
    assert relevance[0] > relevance[1] > relevance[2]


@BOTH
def test_every_candidate_is_picked_once_and_k_may_be_too_large(rerank, rng):
    scores, vectors = _candidates(rng, 15, 4)
    assert sorted(rerank(scores, vectors, k=99, weight=0.5)) == list(range(15))


@BOTH
def test_copies_of_one_item_are_not_shown_one_after_another(rerank):
    vectors = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    assert rerank(np.array([1.0, 0.9, 0.8, 0.5]), vectors, k=2, weight=0.5).tolist() == [0, 3]


@BOTH
def test_the_scale_of_scores_and_vectors_does_not_matter(rerank, rng):
    scores, vectors = _candidates(rng)
    first = rerank(scores, vectors, k=10, weight=0.6)
    lengths = rng.uniform(0.1, 9, (40, 1))
    np.testing.assert_array_equal(
        first, rerank(7 * scores - 3, vectors * lengths, k=10, weight=0.6)
    )


@BOTH
def test_no_candidate_equal_scores_and_zero_vectors(rerank):
    assert rerank(np.zeros(0), np.zeros((0, 3)), k=5).tolist() == []
    assert rerank(np.ones(3), np.zeros((3, 2)), k=2, weight=0.5).tolist() == [0, 1]


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"weight": 1.5},
        {"scores": np.array([1.0, np.nan])},
        {"vectors": np.full((2, 2), np.inf)},
        {"vectors": np.zeros((3, 2))},
        {"scores": np.zeros((2, 1))},
    ],
)
def test_unusable_input_is_refused(rerank, change):
    given = {"scores": np.ones(2), "vectors": np.eye(2), "k": 1, "weight": 0.5, **change}
    with pytest.raises(InputError):
        rerank(given.pop("scores"), given.pop("vectors"), **given)


def test_the_determinants_picks_are_the_greedy_ones_by_definition(rng):
    """Each pick has the largest determinant of all next sets, computed without any update."""
    scores, vectors = _candidates(rng, 12, 6)
    weight, ridge = 0.6, 1e-3
    relevance = (scores - scores.min()) / np.ptp(scores)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.exp(0.5 * weight / (1 - weight) * relevance)
    kernel = quality[:, None] * (unit @ unit.T + ridge * np.eye(12)) * quality
    expected: list[int] = []
    for _ in range(5):
        rest = [item for item in range(12) if item not in expected]
        volumes = [
            np.linalg.det(kernel[np.ix_([*expected, item], [*expected, item])]) for item in rest
        ]
        expected.append(rest[int(np.argmax(volumes))])
    assert rerank_by_determinant(scores, vectors, k=5, weight=weight).tolist() == expected


def test_the_margins_picks_are_those_by_definition(rng):
    scores, vectors = _candidates(rng, 12, 6)
    relevance = (scores - scores.min()) / np.ptp(scores)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [int(np.argmax(relevance))]
    for _ in range(4):
        rest = [item for item in range(12) if item not in expected]
        margins = [
            0.6 * relevance[item] - 0.4 * max(float(unit[item] @ unit[other]) for other in expected)
            for item in rest
        ]
        expected.append(rest[int(np.argmax(margins))])
    assert rerank_by_margin(scores, vectors, k=5, weight=0.6).tolist() == expected
