"""The edge's predictor keeps the contract: a bundle, loaded in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeml
from edgeml.core.predictor import Predictor
from tests.contract.predictor_contract import SIDE, PredictorContract
from tests.small import SIDE as BUNDLE_SIDE


class TestOnnx(PredictorContract):
    # Float sums may be blocked differently in another batch.
    tolerance = 1e-6

    @pytest.fixture
    def predictor(self, small: Path) -> Iterator[Predictor]:
        assert BUNDLE_SIDE == SIDE
        with edgeml.load(small, num_threads=2) as predictor:
            yield predictor
