"""A shadow: it answers nobody, holds nobody up, and says how the answers compare."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import edgeml
from edgeml.errors import InputError, ServerTimeoutError
from edgeml.serving.routing.observing import copied
from tests.unit.serving.routing.two_models import Scripted, always, failing, identity, sample


def pair(says=None, **options):
    stable = Scripted(always("cat"), served_by="old")
    candidate = Scripted(says or always("cat", 0.95), served_by="new")
    return stable, candidate, edgeml.shadow(stable, candidate, **{"share": 1.0, **options})


def test_the_stable_model_answers_and_the_candidate_sees_a_copy() -> None:
    _, candidate, shadow = pair(lambda value: ("dog" if value > 9 else "cat", 0.8))
    answers = [shadow.predict(float(number)) for number in range(1, 11)]
    assert {row.served_by for row in answers} == {"stable:old"}
    assert shadow.finish_comparing(timeout_s=5)
    assert candidate.calls == [float(number) for number in range(1, 11)]
    report = shadow.report()
    assert (report.compared, report.flips.value) == (10, 0.1)
    assert report.flips.low < 0.1 < report.flips.high
    assert report.confidence_shift.value == pytest.approx(-0.1)
    assert report.latency_ratio.low <= report.latency_ratio.value <= report.latency_ratio.high
    assert report.agreement.num_samples == 10
    assert (sample(shadow, "canary_compared_total"), sample(shadow, "canary_flips_total")) == (
        10,
        1,
    )


def test_a_share_of_the_answers_is_compared() -> None:
    _, candidate, shadow = pair(share=0.2)
    for _ in range(500):
        shadow.predict(1.0)
        shadow.finish_comparing()
    assert 60 < len(candidate.calls) < 140


def test_a_full_queue_drops_and_nobody_waits() -> None:
    go = threading.Event()

    def hold(_: float) -> tuple[str, float]:
        go.wait(10)
        return "cat", 0.9

    settings = edgeml.CanarySettings(queue_size=4)
    _, candidate, shadow = pair(hold, settings=settings)
    started = time.monotonic()
    for _ in range(50):
        shadow.predict(1.0)
    assert time.monotonic() - started < 5  # the candidate alone would take 500 s
    report = shadow.report()
    assert report.dropped in (45, 46)  # four wait, one is being made once the thread runs
    assert sample(shadow, "canary_dropped_total") == report.dropped
    assert report.to_json()["flips"] is None
    go.set()
    shadow.finish_comparing()
    assert len(candidate.calls) == 50 - report.dropped
    shadow.close()


def test_a_candidate_that_fails_in_the_background_is_stopped() -> None:
    _, candidate, shadow = pair(failing(ServerTimeoutError(url="grpc://host", timeout_s=1)))
    for _ in range(40):
        assert shadow.predict(1.0).served_by == "stable:old"
        shadow.finish_comparing()
    assert shadow.stopped is not None
    assert shadow.stopped.startswith("errors: ")
    assert len(candidate.calls) == 13


def test_batches_and_tensors_are_compared_item_by_item() -> None:
    _, candidate, shadow = pair()
    shadow.predict_batch([1.0, 2.0, 3.0])
    shadow.predict_tensors({"values": np.ones((2, 1), dtype=np.float32)})
    shadow.finish_comparing()
    assert candidate.calls[:3] == [1.0, 2.0, 3.0]
    report = shadow.report()
    assert report.compared == 5
    assert shadow.run({"values": np.ones((2, 1), dtype=np.float32)})["probabilities"].shape == (
        2,
        3,
    )


def test_a_caller_may_change_what_it_gave() -> None:
    array = np.zeros(3)
    for given in (array, bytearray(b"abc"), {"values": array}):
        kept = copied(given)
        assert kept is not given
    kept = copied({"values": array})
    array += 1
    assert kept["values"].sum() == 0
    assert copied("text") == "text"


def test_sets_of_labels_are_compared_as_sets() -> None:
    facts = {"identity": identity(multi_label=True)}
    stable, candidate = Scripted(always("cat"), **facts), Scripted(always("cat"), **facts)
    shadow = edgeml.shadow(stable, candidate, share=1.0)
    shadow.predict(1.0)
    shadow.finish_comparing()
    assert shadow.report().flips.value == 0
    assert shadow.report().confidence_shift is None  # one item has no interval


def test_labels_fed_back_judge_both() -> None:
    _, _, shadow = pair(lambda value: ("cat" if value < 7 else "dog", 0.9))
    for number in range(10):
        assert shadow.feedback(float(number), "cat")
    assert shadow.finish_comparing(timeout_s=5)
    paired = shadow.report().accuracy
    assert (paired.num_samples, paired.lost, paired.gained) == (10, 3, 0)
    with pytest.raises(InputError, match="'cow' is none of the model's"):
        shadow.feedback(1.0, "cow")
