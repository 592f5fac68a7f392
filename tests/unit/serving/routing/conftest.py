"""A fallback for one test, closed after it."""

from __future__ import annotations

import pytest

from tests.unit.serving.routing.pairs import Pair


@pytest.fixture
def pair():
    made: list[Pair] = []

    def make(*args, **settings):
        made.append(Pair(*args, **settings))
        return made[-1]

    yield make
    for row in made:
        row.predictor.close()
