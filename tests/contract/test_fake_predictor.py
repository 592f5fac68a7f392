"""The shipped fake keeps the contract, so tests that use it test something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Predictor
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor
from tests.contract.predictor_contract import SIDE, PredictorContract


class TestFake(PredictorContract):
    @pytest.fixture
    def predictor(self) -> Iterator[Predictor]:
        task = ImageTask(
            preprocessing=ImagePreprocessing(height=SIDE, width=SIDE),
            labels=ClassLabels(names=("cat", "dog", "owl", "yak", "zebu")),
        )
        with TaskPredictor(task, FakeEngine(task.signature)) as predictor:
            yield predictor
