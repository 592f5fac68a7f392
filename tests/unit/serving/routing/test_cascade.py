"""A cascade: who answers what, in which order, and what happens where one cannot."""

from __future__ import annotations

import numpy as np
import pytest

import edgeml
from edgeml.core.predictor import Predictor
from edgeml.errors import ClosedError, InputError, ServerTimeoutError
from tests.unit.serving.routing.two_models import Scripted, always, failing, identity, sample

TIMEOUT = ServerTimeoutError(url="grpc://host:8001", timeout_s=0.3)


def unsure_below(limit: float) -> Scripted:
    """A first model that is surer the larger the number."""
    return Scripted(lambda value: ("cat", max(0.4, value)), served_by="edge")


def pair(**options):
    first, second = unsure_below(0.7), Scripted(always("dog", 0.99), served_by="server")
    return first, second, edgeml.cascade(first, second, threshold=0.7, **options)


def test_only_what_the_first_is_unsure_of_is_asked_again() -> None:
    first, second, both = pair()
    assert isinstance(both, Predictor)
    sure, unsure = both.predict(0.8), both.predict(0.6)
    assert (sure.label, sure.served_by) == ("cat", "first:edge")
    assert (unsure.label, unsure.served_by) == ("dog", "second:server")
    assert first.calls == [0.8, 0.6]
    assert second.calls == [[0.6]]


def test_a_confidence_at_the_threshold_is_sure() -> None:
    _, second, both = pair()
    assert both.predict(0.7).served_by == "first:edge"
    assert not second.calls


def test_a_batch_keeps_its_order_and_makes_one_batch_of_the_unsure() -> None:
    first, second, both = pair()
    answers = both.predict_batch(value for value in (0.9, 0.5, 0.8, 0.4))
    assert [row.label for row in answers] == ["cat", "dog", "cat", "dog"]
    assert [row.served_by.partition(":")[0] for row in answers] == [
        *("first", "second", "first", "second")
    ]
    assert first.calls == [[0.9, 0.5, 0.8, 0.4]]
    assert second.calls == [[0.5, 0.4]]
    assert both.predict_batch([]) == []


def test_a_bad_item_costs_only_itself_or_is_named() -> None:
    _, second, both = pair()
    answers = both.predict_batch([0.5, "no number", 0.9], on_error="return")
    assert isinstance(answers[1], InputError)
    assert [answers[0].label, answers[2].label] == ["dog", "cat"]
    with pytest.raises(InputError, match="is no number") as caught:
        both.predict_batch([0.5, 0.9, "no number"])
    assert caught.value.__notes__ == ["item 2 of the batch"]
    assert second.calls == [[0.5]]


def test_what_only_the_second_refuses_is_the_callers_and_names_its_own_place() -> None:
    first, second = unsure_below(0.7), Scripted(failing(InputError("too large")))
    both = edgeml.cascade(first, second, threshold=0.7, on_failure="other")
    with pytest.raises(InputError, match="too large") as caught:
        both.predict_batch([0.9, 0.5])
    assert caught.value.__notes__ == ["item 1 of the batch"]
    answers = both.predict_batch([0.9, 0.5], on_error="return")
    assert isinstance(answers[1], InputError)


@pytest.mark.parametrize("call", ["predict", "predict_batch", "predict_tensors"])
def test_a_second_that_fails_is_an_error_or_the_firsts_answer_says_so(call: str) -> None:
    first, second = unsure_below(0.7), Scripted(failing(TIMEOUT), served_by="server")
    question = {
        "predict": 0.5,
        "predict_batch": [0.5],
        "predict_tensors": {"values": np.array([[0.5]], dtype=np.float32)},
    }[call]
    strict = edgeml.cascade(first, second, threshold=0.7)
    with pytest.raises(ServerTimeoutError):
        getattr(strict, call)(question)
    lenient = edgeml.cascade(first, second, threshold=0.7, on_failure="other")
    answer = getattr(lenient, call)(question)
    answer = answer if call == "predict" else answer[0]
    assert answer.label == "cat"
    assert answer.served_by == "first:edge (second failed: timeout)"
    for told in (strict, lenient):
        assert sample(told, "cascade_failures_total", of="second", fault="timeout") == 1


def test_without_leave_the_firsts_answer_stands_in_for_no_item_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a second predictor that puts its own failures in the places of items."""
    _, second, strict = pair()
    monkeypatch.setattr(second, "predict_batch", lambda items, on_error: [TIMEOUT for _ in items])
    answers = strict.predict_batch([0.9, 0.5], on_error="return")
    assert answers[0].label == "cat"
    assert answers[1] is TIMEOUT


def test_a_first_that_fails_is_an_error_or_the_second_answers_and_says_so() -> None:
    first, second = Scripted(failing(TIMEOUT)), Scripted(always("dog"), served_by="server")
    with pytest.raises(ServerTimeoutError):
        edgeml.cascade(first, second, threshold=0.7).predict(0.5)
    lenient = edgeml.cascade(first, second, threshold=0.7, on_failure="other")
    assert lenient.predict(0.5).served_by == "second:server (first failed: timeout)"
    answers = lenient.predict_batch([0.1, "no number"], on_error="return")
    assert answers[0].label == "dog"
    assert isinstance(answers[1], InputError)


def test_tensors_pass_where_both_models_take_the_same_ones() -> None:
    _, second, both = pair()
    tensors = {"values": np.array([[0.9], [0.5]], dtype=np.float32)}
    assert [row.label for row in both.predict_tensors(tensors)] == ["cat", "dog"]
    found = both.run(tensors)["probabilities"]
    assert found.dtype == np.float32
    assert found.argmax(axis=1).tolist() == [0, 1]
    assert [len(call["values"]) for call in second.calls] == [1, 1]


@pytest.mark.parametrize("call", ["predict_tensors", "run"])
def test_tensors_are_refused_where_the_inputs_differ(call: str) -> None:
    both = edgeml.cascade(unsure_below(0.7), Scripted(always("dog"), width=2), threshold=0.7)
    with pytest.raises(InputError, match="call predict"):
        getattr(both, call)({"values": np.zeros((1, 1), dtype=np.float32)})
    assert both.predict(0.9).label == "cat"


def test_the_surest_label_of_several_is_no_confidence() -> None:
    # Sure of "cat", at a loss over "dog": unsure.
    first = Scripted(lambda _: ("cat", 0.99), identity=identity(multi_label=True), served_by="edge")
    second = Scripted(always("dog"), identity=identity(multi_label=True))
    both = edgeml.cascade(first, second, threshold=0.9)
    assert both.predict(1.0).served_by.startswith("first")
    first.says = lambda _: ("cat", 0.2)  # the others have 0.4 each
    assert both.predict(1.0).served_by.startswith("second")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, "a confidence from 0 to 1"),
        ({"threshold": float("nan")}, "a confidence from 0 to 1"),
        ({"threshold": 0.5, "on_failure": "first"}, "'raise' or 'other'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        edgeml.cascade(unsure_below(0.7), Scripted(always("dog")), **options)


class ForLoops(Scripted):
    """A predictor for an event loop."""

    async def predict(self, item: object) -> None:
        raise NotImplementedError


def test_models_that_answer_in_other_words_are_refused() -> None:
    first = unsure_below(0.7)
    for other, words in [
        (Scripted(always("dog"), labels=("cat", "owl", "dog")), "differ in labels"),
        (object(), "a predictor was expected"),
        (ForLoops(always("dog")), "a predictor was expected"),
    ]:
        with pytest.raises(InputError, match=words):
            edgeml.cascade(first, other, threshold=0.5)


def test_it_is_counted_who_answered() -> None:
    _, _, both = pair()
    both.predict_batch([0.9, 0.5, 0.8])
    assert sample(both, "cascade_answers_total", by="first") == 2
    assert sample(both, "cascade_answers_total", by="second") == 1
    assert sample(both, "cascade_threshold") == 0.7
    assert both.metrics_text().endswith("# EOF\n")


def test_what_a_member_counts_is_shown_under_its_name() -> None:
    _, second, inner = pair()
    outer = edgeml.cascade(inner, second, threshold=0.3)
    outer.predict(0.9)
    assert sample(outer, "cascade_answers_total", by="first") == 1
    assert sample(outer, "cascade_answers_total", by="first", part="first") == 1


def test_closing_closes_both_or_neither() -> None:
    first, second, both = pair()
    with both:
        pass
    assert first.closed.is_set()
    assert second.closed.is_set()
    for call, question in [("predict", 0.5), ("predict_batch", [0.5])]:
        with pytest.raises(ClosedError):
            getattr(both, call)(question)
    first, _, both = pair(close_members=False)
    both.close()
    assert not first.closed.is_set()
