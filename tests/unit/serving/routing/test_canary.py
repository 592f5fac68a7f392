"""A canary: who is answered by the candidate, what nobody may notice, and when it ends."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edgeml
from edgeml.core.deadline import remaining_s
from edgeml.core.predictor import Predictor
from edgeml.errors import ClosedError, InferenceError, InputError, ServerTimeoutError
from tests.unit.serving.routing.two_models import Scripted, always, failing, identity, sample

TIMEOUT = ServerTimeoutError(url="grpc://host:8001", timeout_s=0.3)
LOGGER = "edgeml.serving.routing.observing"


def pair(says=None, **options):
    stable = Scripted(always("cat"), served_by="old")
    candidate = Scripted(says or always("cat", 0.95), served_by="new")
    options = {"share": 0.5, "shadow": 0.0, **options}
    return stable, candidate, edgeml.canary(stable, candidate, **options)


def by(answer) -> str:
    return answer.served_by.partition(":")[0]


def test_a_key_has_the_same_model_each_time_and_everywhere() -> None:
    _, _, canary = pair()
    _, _, other = pair()
    assert isinstance(canary, Predictor)

    def ask(predictor, user: str) -> str:
        with predictor.keyed(user):
            return by(predictor.predict(1.0))

    users = [f"user-{number}" for number in range(200)]
    first = {user: ask(canary, user) for user in users}
    assert {ask(other, user) == first[user] for user in users} == {True}
    assert 60 < sum(name == "candidate" for name in first.values()) < 140


def test_raising_the_share_takes_no_key_back() -> None:
    _, _, canary = pair(share=0.0, key=lambda item: int(item))
    had: set[float] = set()
    for share in (0.0, 0.1, 0.4, 1.0):
        canary.set_share(share)
        items = [float(number) for number in range(100)]
        has = {item for item in items if by(canary.predict(item)) == "candidate"}
        assert had <= has
        had = has
    assert len(had) == 100


def test_without_a_key_the_contents_decide_and_what_has_none_is_refused() -> None:
    stable, candidate = Scripted(always("cat")), Scripted(always("cat"))
    canary = edgeml.canary(stable, candidate, share=0.5, shadow=0.0)
    with pytest.raises(InputError, match="give key="):
        canary.predict(1.0)  # a number is no content of a picture or a text
    with pytest.raises(InputError, match="such as the id of a user"), canary.keyed(None):
        pass
    tensors = {"values": np.ones((1, 1), dtype=np.float32)}
    assert {by(canary.predict_tensors(tensors)[0]) for _ in range(5)} in ({"stable"}, {"candidate"})


def test_another_candidate_has_other_keys() -> None:
    users = [f"user-{number}" for number in range(300)]

    def chosen(sha256: str) -> set[str]:
        candidate = Scripted(always("cat"), identity=identity(artefacts={"fp32": sha256}))
        canary = edgeml.canary(Scripted(always("cat")), candidate, share=0.3, shadow=0.0)
        found = set()
        for user in users:
            with canary.keyed(user):
                found |= {user} if by(canary.predict(1.0)) == "candidate" else set()
        return found

    assert chosen("aa") == chosen("aa")
    assert len(chosen("aa") & chosen("bb")) < 0.6 * len(chosen("aa"))


@pytest.mark.parametrize(
    "error", [TIMEOUT, InferenceError(reason="bad node"), RuntimeError("a bug"), ClosedError()]
)
def test_a_candidates_error_reaches_nobody(error: Exception) -> None:
    stable, _, canary = pair(failing(error), share=1.0, key=lambda _: "a")
    word = "timeout" if error is TIMEOUT else type(error).__name__
    answer = canary.predict(1.0)
    assert (answer.label, answer.served_by) == ("cat", f"stable:old (candidate failed: {word})")
    tensors = {"values": np.ones((2, 1), dtype=np.float32)}
    assert [row.label for row in canary.predict_tensors(tensors)] == ["cat", "cat"]
    assert canary.run(tensors)["probabilities"].shape == (2, 3)
    answers = canary.predict_batch([1.0, 2.0])
    assert [by(row) for row in answers] == ["stable", "stable"]
    assert sample(canary, "canary_candidate_failures_total", fault=word) == 5
    assert len(stable.calls) == 4


def test_the_callers_own_bad_input_reaches_him_and_counts_for_nothing() -> None:
    _, _, canary = pair(share=1.0, key=lambda _: "a")
    with pytest.raises(InputError, match="is no number"):
        canary.predict("text")
    with pytest.raises(InputError, match="is no number") as caught:
        canary.predict_batch([1.0, "text"])
    assert caught.value.__notes__ == ["item 1 of the batch"]
    rows = canary.predict_batch([1.0, "text"], on_error="return")
    assert by(rows[0]) == "candidate"
    assert isinstance(rows[1], InputError)
    assert canary.report().candidate_failures == 0


def test_a_batch_is_shared_out_by_its_items_keys_in_order() -> None:
    stable, candidate, canary = pair(lambda value: ("dog", 0.9), key=lambda item: int(item))
    items = [float(number) for number in range(40)]
    alone = [canary.predict(item).label for item in items]
    stable.calls.clear()
    candidate.calls.clear()
    assert [row.label for row in canary.predict_batch(items)] == alone
    assert set(alone) == {"cat", "dog"}
    assert len(stable.calls) == len(candidate.calls) == 1  # one batch each
    with canary.keyed("user-1"):
        assert len({row.label for row in canary.predict_batch(items)}) == 1


def test_a_candidate_that_fails_is_stopped_soon_and_says_why(caplog) -> None:
    _, candidate, canary = pair(failing(TIMEOUT), share=0.5, key=lambda item: int(item))
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        answers = [canary.predict(float(number)) for number in range(200)]
    assert {row.label for row in answers} == {"cat"}
    assert len(candidate.calls) == 13
    assert canary.share == 0.0
    assert canary.stopped == (
        "errors: it failed 13 of 13 calls that the stable model answered; at most 1.0% is allowed"
    )
    assert [record.message for record in caplog.records] == [
        "the candidate new is stopped (errors): it failed 13 of 13 calls that the stable model "
        "answered; at most 1.0% is allowed; the stable model answers all calls"
    ]
    assert sample(canary, "canary_stopped_total", watch="errors") == 1
    assert sample(canary, "canary_share") == 0
    with pytest.raises(InputError, match="make a new canary"):
        canary.set_share(0.1)
    assert by(canary.predict(1.0)) == "stable"


def test_what_both_fail_is_not_held_against_the_candidate() -> None:
    stable, _, canary = pair(failing(TIMEOUT), share=1.0, key=lambda _: "a")
    stable.says = failing(TIMEOUT)
    for _ in range(100):
        with pytest.raises(ServerTimeoutError):
            canary.predict(1.0)
    assert canary.stopped is None


def compare_all(canary, count: int = 200) -> None:
    for number in range(count):
        canary.predict(number / count)
        # A comparison at a time: nothing is dropped.
        assert canary.finish_comparing(timeout_s=5)


def odd(value: float) -> bool:
    return round(1000 * value) % 2 == 1


@pytest.mark.parametrize(
    ("watch", "says"),
    [
        # Every second label is exchanged: the labels' shares stay as they are.
        ("flips", lambda value: ("dog" if odd(value) else "cat", 0.9)),
        ("confidence", lambda value: ("cat" if odd(value) else "dog", 0.6)),
        ("labels", lambda value: ("owl" if odd(value) else "dog", 0.9)),
    ],
)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_candidate_that_answers_otherwise_is_stopped(watch: str, says, share: float) -> None:
    settings = edgeml.CanarySettings(max_flips=0.9 if watch == "labels" else 0.2)
    stable, _, canary = pair(says, share=share, shadow=1.0, key=str, settings=settings)
    stable.says = lambda value: ("cat" if odd(value) else "dog", 0.9)
    compare_all(canary)
    assert canary.stopped is not None
    assert canary.stopped.startswith(f"{watch}: ")


def waiting(seconds: float):
    def says(_: float) -> tuple[str, float]:
        time.sleep(seconds)
        return "cat", 0.9

    return says


@pytest.mark.parametrize(
    ("stable_s", "stopped"),
    [(0.002, True), (0.008, False)],  # the candidate takes 0.010
)
def test_a_slower_candidate_is_stopped_by_its_ratio_not_by_its_time(
    stable_s: float, stopped: bool
) -> None:
    stable, _, canary = pair(waiting(0.010), share=0.0, shadow=1.0, key=lambda _: "a")
    stable.says = waiting(stable_s)
    compare_all(canary, 60)
    if stopped:
        assert canary.stopped is not None
        assert canary.stopped.startswith("latency: ")
        assert canary.report().latency_ratio.low > 1.5
    else:
        assert canary.stopped is None


def test_a_candidate_that_is_alike_goes_on() -> None:
    _, _, canary = pair(always("cat", 0.92), share=0.5, shadow=1.0, key=lambda item: str(item))
    compare_all(canary, 300)
    assert canary.stopped is None
    report = canary.report()
    assert report.flips.value == 0
    assert report.confidence_shift.value == pytest.approx(0.02)


def test_a_candidate_has_half_of_the_deadline_and_no_more_than_its_own_time() -> None:
    left: list[float] = []

    def look(_: float) -> tuple[str, float]:
        left.append(remaining_s())
        return "cat", 0.9

    settings = edgeml.CanarySettings(candidate_timeout_s=0.5)
    _, _, canary = pair(look, share=1.0, key=lambda _: "a", settings=settings)
    canary.predict(1.0)
    with edgeml.deadline(0.4):
        canary.predict(1.0)
        canary.predict_batch([1.0])
    assert 0.4 < left[0] <= 0.5
    assert all(0.1 < seconds <= 0.2 for seconds in left[1:])


def test_its_hand_stops_it_and_it_is_one_report() -> None:
    _, candidate, canary = pair(share=1.0, key=lambda _: "a")
    canary.predict(1.0)
    canary.stop("release frozen")
    canary.stop("again")
    canary.predict(1.0)
    assert len(candidate.calls) == 1
    report = canary.report()
    assert (report.stopped, report.share) == ("hand: release frozen", 0.0)
    assert (report.candidate_answers, report.stable_answers) == (1, 1)
    assert json.loads(json.dumps(report.to_json()))["stopped"] == "hand: release frozen"


def test_many_threads_count_once_each() -> None:
    _, _, canary = pair(share=0.5, shadow=0.2, key=lambda item: int(item))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(canary.predict, [float(number) for number in range(400)]))
    canary.finish_comparing()
    report = canary.report()
    shares = [sum(by(row) == name for row in answers) for name in ("stable", "candidate")]
    assert [report.stable_answers, report.candidate_answers] == shares
    assert 40 < report.compared + report.dropped < 130


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.5}, "share is 1.5; a fraction"),
        ({"shadow": -0.1}, "shadow is -0.1; a fraction"),
        ({"share": float("nan")}, "share is nan"),
    ],
)
def test_shares_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pair(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_flips", 1.0),
        ("max_error_excess", -0.1),
        ("max_latency_ratio", 0.0),
        ("min_latency_excess_ms", -1.0),
        ("false_stop", 0.0),
        ("candidate_timeout_s", float("inf")),
        ("queue_size", 0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        edgeml.CanarySettings(**{name: value})


def test_tensors_are_refused_where_the_inputs_differ() -> None:
    stable, candidate = Scripted(always("cat")), Scripted(always("cat"), width=2)
    canary = edgeml.canary(stable, candidate, share=1.0, key=lambda _: "a")
    for call in (canary.predict_tensors, canary.run):
        with pytest.raises(InputError, match="call predict"):
            call({"values": np.zeros((1, 1), dtype=np.float32)})
    assert canary.predict(1.0).label == "cat"


def test_other_labels_are_refused() -> None:
    with pytest.raises(InputError, match="differ in labels"):
        edgeml.canary(
            Scripted(always("cat")), Scripted(always("cat"), labels=("owl", "dog", "cat"))
        )


def test_closing_closes_both_or_neither() -> None:
    stable, candidate, canary = pair()
    with canary:
        pass
    assert stable.closed.is_set()
    assert candidate.closed.is_set()
    with pytest.raises(ClosedError), canary.keyed("a"):
        canary.predict(1.0)
    with pytest.raises(ClosedError):
        canary.predict_batch([1.0])
    stable, _, canary = pair(close_members=False)
    canary.close()
    assert not stable.closed.is_set()
