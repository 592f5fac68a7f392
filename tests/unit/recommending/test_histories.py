"""Ragged histories: unknown codes are left out, repeats are counted once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.errors import InputError
from edgeml.recommending.retrieval.histories import Histories

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6)


@given(ROWS)
def test_rows_come_back_without_unknown_items(rows):
    histories = Histories.of(rows)
    assert [histories[row].tolist() for row in range(len(histories))] == [
        [item for item in row if item] for row in rows
    ]


@given(ROWS)
def test_distinct_keeps_the_first_of_each(rows):
    distinct = Histories.of(rows).distinct()
    assert [distinct[row].tolist() for row in range(len(distinct))] == [
        list(dict.fromkeys(item for item in row if item)) for row in rows
    ]


@given(ROWS, st.integers(0, 3))
def test_sums_are_the_matrix_product_dense_or_sparse(rows, padding):
    histories = Histories.of(rows)
    table = np.random.default_rng(0).standard_normal((10 + 300 * padding, 3)).astype(np.float32)
    expected = histories.matrix(len(table)) @ table
    np.testing.assert_allclose(histories.sums(table), expected, atol=1e-5)


def test_a_log_is_gathered_by_user_in_its_order():
    histories = Histories.by_user(np.array([2, 1, 2, 0, 2]), np.array([5, 3, 4, 9, 0]), num_users=4)
    assert [histories[user].tolist() for user in range(4)] == [[], [3], [5, 4], []]
    assert histories.rows([2, 1]).items.tolist() == [5, 4, 3]
    assert histories.rows(np.array([False, True, False, True])).lengths.tolist() == [1, 0]


def test_codes_out_of_range_are_refused():
    with pytest.raises(InputError, match="0 to 3"):
        Histories.by_user(np.array([3]), np.array([1]), num_users=3)
    with pytest.raises(InputError, match="one length"):
        Histories.by_user(np.array([1, 2]), np.array([1]), num_users=3)
    with pytest.raises(InputError, match="not below 4"):
        Histories.of([[4]]).matrix(4)
    with pytest.raises(InputError, match="-2 to -2"):
        Histories.by_user(np.array([1]), np.array([-2]), num_users=3)


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="do not belong together"):
        Histories(offsets=np.array([0, 2]), items=np.array([1]), users=np.array([0]))
