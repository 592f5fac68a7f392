"""The client of a string-in model: what it refuses, sends and reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from edgeml.errors import InputError, ServerError, SignatureError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.grpc_transport import make_request, read_answer
from edgeml.serving.client.served import served_from, step_behind
from edgeml.serving.client.text_task import ServedTextTask
from edgeml.serving.client.wire import check_feed
from edgeml.serving.repository.config import describe, parse_config
from edgeml.serving.repository.contract import labels_of, task_of
from edgeml.serving.repository.text_config import text_config, tokenizer_config
from edgeml.workflows.loading import task_of as task_of_bundle
from tests.unit.serving.fake_server import FakeTriton, serving
from tests.unit.serving.test_text_config import texts_of


@pytest.fixture
def served(text_contract):
    texts = {part: describe(parse_config(text)) for part, text in texts_of(text_contract).items()}
    assert step_behind(texts["text"]) == ("sentiment", 3)
    assert step_behind(texts["ids"]) is None
    return served_from(texts["text"], version="3", behind=texts["ids"])


def objects(*values) -> np.ndarray:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def test_it_says_who_answers(served):
    assert served.object_input == "text"
    assert (served.variant, served.served_by) == ("fp32", "triton/auto/fp32/3")


@pytest.mark.parametrize("item", [b"good", 7, None, "a\ud800b", "\udc00", ["good"]])
def test_what_the_edge_refuses_is_refused_in_the_same_words(sentiment, text_contract, item):
    messages = []
    for task in (task_of_bundle(sentiment), ServedTextTask(labels_of(text_contract))):
        with pytest.raises(InputError) as caught:
            task.prepare(item)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_text_beyond_the_limit_is_refused(sentiment, text_contract):
    text = "x" * 16_000_001
    for task in (task_of_bundle(sentiment), ServedTextTask(labels_of(text_contract))):
        with pytest.raises(InputError, match="has 16000001 characters"):
            task.prepare(text)


@pytest.mark.parametrize(
    "feed",
    [
        {},
        {"text": ["good"]},
        {"text": np.array(["good"])},
        {"text": objects()},
        {"text": objects("good", b"bad")},
        {"text": objects("good").reshape(1, 1)},
        {"text": objects("good"), "input_ids": np.zeros((1, 4), dtype=np.int64)},
        {"input_ids": np.zeros((1, 4), dtype=np.int64)},
    ],
)
def test_a_feed_that_is_no_array_of_strings_is_refused(served, feed):
    with pytest.raises(SignatureError, match="text"):
        check_feed(served, feed)


@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_strings_arrive_as_they_were(served, texts):
    feed = {"text": objects(*texts)}
    assert check_feed(served, feed) == len(texts)
    request = make_request(served, feed, model="sentiment_text", version="", timeout_s=1.0)
    assert list(request.inputs[0].shape) == [len(texts), 1]
    (content,) = request.raw_input_contents
    assert [row.decode() for row in deserialize_bytes_tensor(content)] == texts


def test_an_answer_becomes_predictions_with_labels_and_marks(served):
    response = service_pb2.ModelInferResponse()
    rows = np.float32([[0.6, 0.7], [0.4, 0.1]])
    for name, kind, array in (
        ("probabilities", "FP32", rows),
        ("truncated", "BOOL", np.array([[True], [False]])),
    ):
        response.outputs.add(name=name, datatype=kind, shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    task = ServedTextTask(labels_of(served.contract))
    first, second = task.interpret(read_answer(served, response).outputs, served_by="me")
    assert (first.label, first.labels, first.truncated) == (
        "positive",
        ("negative", "positive"),
        True,
    )
    assert (second.label, second.labels, second.truncated) == ("negative", (), False)
    response.outputs[1].datatype = "FP32"
    with pytest.raises(ValueError, match="no output 'truncated' of the type bool"):
        read_answer(served, response)


def test_an_ensemble_of_another_model_is_refused(text_contract):
    texts = texts_of(text_contract)
    other = describe(parse_config(texts_of({**text_contract, "labels": ["a", "b"]})["ids"]))
    with pytest.raises(InputError, match=r"published for another 'sentiment' .*\(labels\)"):
        served_from(describe(parse_config(texts["text"])), version="3", behind=other)


def test_a_model_that_takes_ids_needs_its_tokenizer(text_contract):
    with pytest.raises(InputError, match=r"give bundle=\.\.\., or use the model .* '_text'"):
        task_of(text_contract)


def test_a_mere_part_is_no_model_to_connect_to(text_contract):
    (config,) = tokenizer_config(
        text_contract, model="sentiment", version=3, max_batch_size=32
    ).values()
    expected = "it is the tokenizer of 'sentiment'; 'sentiment' or 'sentiment_text' was expected"
    with (
        serving(FakeTriton(config=config)) as url,
        pytest.raises(ServerError, match=expected),
    ):
        TritonEngine(url, model="sentiment_tokenizer", timeout_s=5)


def test_an_ensemble_without_its_model_is_refused(text_contract):
    """The stand-in gives the ensemble's configuration for every model."""
    (config,) = text_config(text_contract, model="sentiment", version=3, max_batch_size=32).values()
    with (
        serving(FakeTriton(config=config)) as url,
        pytest.raises(ServerError, match="backend 'ensemble'"),
    ):
        TritonEngine(url, model="sentiment_text", timeout_s=5)
