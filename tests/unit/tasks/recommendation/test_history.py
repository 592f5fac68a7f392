"""Features as of a moment: nothing at or after it counts, however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.tasks.recommendation.encoders import (
    Hashing,
    Quantiles,
    Vocabulary,
    encoder_from_json,
)
from edgeml.tasks.recommendation.features import RankingFeatures, context_codes
from edgeml.tasks.recommendation.history import EventIndex
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.tasks.recommendation.tables import EncodedTable, FeatureEncoder


def events(count: int = 400, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    # Few moments, so that many events share one.
    return Interactions(
        users=rng.integers(1, 9, count),
        items=rng.integers(1, 13, count),
        times_ms=np.sort(rng.integers(0, 60, count)) * 3_600_000,
        positive=rng.random(count) < 0.4,
        signals={"seconds": rng.random(count).astype(np.float32) * 50},
    )


def features() -> RankingFeatures:
    genre = FeatureEncoder(name="genre", kind="category", encoder=Vocabulary(values=("a", "b")))
    items = EncodedTable.encode(
        [genre], [np.array([None, *["ab"[n % 2] for n in range(12)]], dtype=object)], 13
    )
    return RankingFeatures(
        users=EncodedTable.empty(9),
        items=items,
        context=(FeatureEncoder(name="tab", kind="category", encoder=Vocabulary(values=("x",))),),
        groups=(0,),
        signals=(("seconds", "amount"),),
        means=np.array([0.4, 3.0]),
        item_codes=np.arange(13),
    )


def rows_of(made: RankingFeatures, known: Interactions, asked: Interactions) -> np.ndarray:
    index = made.index(known)
    _, request = made.request_part(index, asked.users, asked.times_ms)
    _, candidate = made.candidate_part(index, index, asked.users, asked.items, asked.times_ms)
    return np.concatenate([request, candidate], axis=1)


def test_an_index_counts_as_a_loop_does() -> None:
    log = events()
    index = EventIndex(log.users, log.times_ms, log.positive[:, None].astype(np.float64))
    for window in (None, 5 * 3_600_000):
        found = index.before(log.users, log.times_ms, window_ms=window)
        for row in range(len(log)):
            earlier = (log.users == log.users[row]) & (log.times_ms < log.times_ms[row])
            if window is not None:
                earlier &= log.times_ms >= log.times_ms[row] - window
            assert found.count[row] == earlier.sum()
            assert found.sums[row, 0] == pytest.approx(log.positive[earlier].sum())
    unknown = index.before(np.array([99]), np.array([10**9]))
    assert (unknown.count[0], unknown.last_ms[0]) == (0, -1)


def test_deleting_all_later_rows_changes_no_feature() -> None:
    log, made = events(), features()
    whole = rows_of(made, log, log)
    for row in (0, 57, 200, 399):
        before = log.take(log.times_ms < log.times_ms[row])
        alone = rows_of(made, before, log.take(np.array([row])))
        assert np.array_equal(alone[0], whole[row])


def test_a_later_row_would_be_noticed() -> None:
    log, made = events(), features()
    row = 200
    after = log.take(log.times_ms >= log.times_ms[row])
    shifted = Interactions(
        users=after.users,
        items=after.items,
        times_ms=after.times_ms - 40 * 3_600_000,
        positive=after.positive,
        signals=after.signals,
    )
    leaking = log.take(log.times_ms < log.times_ms[row]).followed_by(shifted)
    asked = log.take(np.array([row]))
    assert not np.array_equal(rows_of(made, leaking, asked)[0], rows_of(made, log, log)[row])


def test_serving_a_request_gives_the_rows_that_training_saw() -> None:
    log, made = events(), features()
    index = made.index(log)
    row, items = 300, np.arange(1, 13)
    user, at = log.users[row : row + 1], log.times_ms[row : row + 1]
    ids, numbers = made.request_part(index, user, at)
    many = np.repeat(user, 12), np.repeat(at, 12)
    _, served = made.candidate_part(index, index, many[0], items, many[1])
    place = int(log.items[row]) - 1
    assert np.array_equal(np.concatenate([numbers[0], served[place]]), rows_of(made, log, log)[row])
    assert ids.shape == (1, len(made.fields.request_ids))
    made.fields.check(
        {
            "request_ids": ids,
            "request_numbers": numbers,
            "candidate_ids": made.candidate_part(index, index, many[0], items, many[1])[0],
            "candidate_numbers": served,
        }
    )


def test_unknown_users_and_items_have_features_too() -> None:
    log, made = events(), features()
    index = made.index(log)
    stranger, at = np.array([50]), np.array([10**9])
    ids, numbers = made.request_part(index, stranger, at)
    codes, more = made.candidate_part(index, index, stranger, np.array([77]), at)
    assert np.isfinite(numbers).all()
    assert np.isfinite(more).all()
    assert codes.max() == 0
    assert ids[0, 0] == 0


def test_context_is_encoded_and_unknown_names_are_refused() -> None:
    made = features()
    assert context_codes(made.context, {"tab": "x"}).tolist() == [[1]]
    assert context_codes(made.context, {"tab": "new"}).tolist() == [[0]]
    with pytest.raises(KeyError):
        context_codes(made.context, {"tap": "x"})


@pytest.mark.parametrize(
    "encoder", [Vocabulary(values=("a", "ü")), Hashing(buckets=7), Quantiles(edges=(0.5, 2.0))]
)
def test_encoders_survive_json(encoder: object) -> None:
    again = encoder_from_json(encoder.to_json())  # type: ignore[attr-defined]
    assert again == encoder
    values = [0.1, 3.0, float("nan")] if isinstance(encoder, Quantiles) else ["a", "b", None]
    codes = again.encode(values)
    assert codes[-1] == 0
    assert (codes < again.size).all()


def test_a_vocabulary_keeps_the_most_frequent() -> None:
    fitted = Vocabulary.fit(["b", "a", "b", None, "c"], max_size=2)
    assert fitted.values == ("b", "a")
