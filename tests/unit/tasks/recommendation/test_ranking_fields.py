"""What a ranker reads: names, JSON, and the refusal of codes and numbers that would rank wrong."""

from dataclasses import replace

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.tasks.recommendation.ranking import Head, IdField, RankingFields, RankingRows
from tests.unit.ranker_rows import FIELDS, ranker_rows


def test_fields_survive_json():
    assert RankingFields.from_json(FIELDS.to_json()) == FIELDS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"heads": (Head(name="watch", kind="amount"),)}, "first head"),
        ({"crosses": (("tab", "planet"),)}, "planet"),
        ({"candidate_numbers": ("user_rate",)}, "user_rate"),
        ({"request_ids": (IdField(name="item", size=3),), "crosses": ()}, "'item'"),
    ],
)
def test_fields_that_contradict_themselves_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(FIELDS, **change)


def test_json_of_something_else_is_refused():
    with pytest.raises(ValueError, match="no description"):
        RankingFields.from_json({"request_ids": []})


def test_the_signature_has_one_row_of_the_request_and_free_candidates():
    shapes = {spec.name: spec.shape for spec in FIELDS.signature.inputs}
    assert shapes["request_ids"] == (1, 2)
    assert shapes["candidate_numbers"] == ("candidates", 2)


@pytest.mark.parametrize("code", [-1, 40])
def test_a_code_outside_its_vocabulary_is_refused_by_name(code):
    rows = ranker_rows(40)
    rows.candidate_ids[3, 0] = code
    with pytest.raises(InputError, match="'item'"):
        FIELDS.check(rows.to_arrays())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_by_name(value):
    rows = ranker_rows(40)
    rows.candidate_numbers[5, 1] = value
    with pytest.raises(InputError, match="'retrieval_score'"):
        FIELDS.check(rows.to_arrays())


def test_rows_survive_arrays_and_joining():
    rows = ranker_rows(60)
    again = RankingRows.from_arrays(rows.to_arrays())
    both = RankingRows.concatenate([rows.take(np.arange(20)), again.take(np.arange(20, 60))])
    for name, array in rows.to_arrays().items():
        np.testing.assert_array_equal(both.to_arrays()[name], array)


def test_rows_of_different_lengths_are_refused():
    rows = ranker_rows(40)
    with pytest.raises(ValueError, match="request_ids has 40 rows"):
        replace(rows, groups=rows.groups[:7])
