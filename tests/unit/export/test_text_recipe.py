"""The threshold that a text recipe chooses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.text_recipe import lowest_threshold


@dataclass(frozen=True, kw_only=True)
class Case:
    """Scores, who is positive (``+``), and the threshold that keeps a precision."""

    id: str
    scores: tuple[float, ...]
    positive: str
    precision: float
    expected: float


CASES = (
    Case(id="all", scores=(0.9, 0.8, 0.7), positive="+++", precision=1.0, expected=0.7),
    Case(id="order", scores=(0.2, 0.9, 0.5), positive="-++", precision=1.0, expected=0.5),
    Case(id="dips", scores=(0.9, 0.8, 0.7, 0.6), positive="+-++", precision=0.75, expected=0.6),
    Case(id="exactly", scores=(0.9, 0.8, 0.7), positive="++-", precision=2 / 3, expected=0.7),
    # The positive of a tie cannot be flagged without its neighbour.
    Case(id="tie", scores=(0.9, 0.5, 0.5), positive="++-", precision=0.9, expected=0.9),
    Case(id="tie-other-order", scores=(0.9, 0.5, 0.5), positive="+-+", precision=0.9, expected=0.9),
    Case(id="tie-kept", scores=(0.9, 0.5, 0.5), positive="++-", precision=0.6, expected=0.5),
    Case(id="only-a-tie", scores=(0.5, 0.5), positive="+-", precision=0.9, expected=1.0),
    Case(id="none", scores=(0.9, 0.8), positive="--", precision=0.1, expected=1.0),
    Case(id="wrong-at-the-top", scores=(0.9, 0.8), positive="-+", precision=0.9, expected=1.0),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_lowest_threshold_that_keeps_the_precision(case: Case) -> None:
    positive = np.array([mark == "+" for mark in case.positive])
    found = lowest_threshold(np.array(case.scores), positive, precision=case.precision)
    assert found == case.expected


@given(
    rows=st.lists(st.tuples(st.sampled_from((0.1, 0.2, 0.4, 0.7, 0.9)), st.booleans()), min_size=1),
    precision=st.sampled_from((0.3, 0.5, 0.8, 1.0)),
)
def test_what_is_flagged_keeps_it_and_no_lower_score_does(
    rows: list[tuple[float, bool]], precision: float
) -> None:
    scores = np.array([score for score, _ in rows])
    positive = np.array([mark for _, mark in rows])
    kept = [one for one in set(scores) if positive[scores >= one].mean() >= precision]
    assert lowest_threshold(scores, positive, precision=precision) == min(kept, default=1.0)
