"""The fake engine checks its feed, can be scripted, and closes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import ClosedError, SignatureError

SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 2)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 3)),),
)
FEED = {"x": np.array([[0, 1], [1, 1], [2, 1]], dtype=np.float32)}


def test_answers_fit_the_signature_and_follow_the_input() -> None:
    engine = FakeEngine(SIGNATURE)
    assert isinstance(engine, Engine)
    (answer,) = engine.run(FEED).values()
    SIGNATURE.outputs[0].check(answer)
    assert answer.argmax(axis=1).tolist() == [1, 2, 0]
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-6)


def test_an_answer_can_be_scripted() -> None:
    engine = FakeEngine(
        SIGNATURE, answer=lambda feed: {"y": -feed["x"]}, served_by="fake/gpu/int8/7"
    )
    np.testing.assert_array_equal(engine.run(FEED)["y"], -FEED["x"])
    assert engine.served_by == "fake/gpu/int8/7"


def test_a_bad_feed_never_reaches_the_script() -> None:
    reached = []
    engine = FakeEngine(SIGNATURE, answer=lambda feed: reached.append(feed) or {})
    with pytest.raises(SignatureError):
        engine.run({"x": np.zeros((1, 3), dtype=np.float32)})
    assert reached == []


def test_closed_is_closed() -> None:
    engine = FakeEngine(SIGNATURE)
    engine.close()
    engine.close()
    with pytest.raises(ClosedError):
        engine.run(FEED)
