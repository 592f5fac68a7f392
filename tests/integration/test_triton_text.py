"""Text on the real Triton: by token ids, and as strings; the same answers as at the edge."""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tritonclient.grpc as official
from tritonclient.utils import InferenceServerException

import edgeml
from edgeml.errors import InputError, IntegrityError, ModelNotReadyError, ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import start_triton
from tests.integration.test_triton_serving import burst, executions, tensor
from tests.unit.serving.tiny_text import LABELS, MAX_LENGTH, make_text_bundle, make_texts

pytestmark = pytest.mark.triton

TEXTS = make_texts(200)
NAMES = ("sentiment", "sentiment_tokenizer", "sentiment_labels", "sentiment_text")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    typed = ("input_ids", "attention_mask", "token_type_ids")
    return {
        "sentiment": make_text_bundle(root / "sentiment.bundle"),
        "mood": make_text_bundle(
            root / "mood.bundle", name="mood", multi_label=True, inputs=typed, seed=1
        ),
        "mixed": make_text_bundle(
            root / "mixed.bundle", name="mixed", chosen="int8", batch_safe=False, seed=2
        ),
    }


@pytest.fixture(scope="module")
def server(triton, bundles, tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for bundle in bundles.values():
        publish_bundle(bundle, repository)
    publish_bundle(bundles["sentiment"], repository, name="gpu", policy="required")
    with start_triton(repository, installation=triton) as running:
        yield running


@pytest.fixture(params=["ids", "text"])
def predictor(request, server, bundles):
    """The two ways to ask: with the bundle's tokenizer, and with strings alone."""
    if request.param == "ids":
        made = edgeml.connect(server.grpc, model="sentiment", bundle=bundles["sentiment"])
    else:
        made = edgeml.connect(server.grpc, model="sentiment_text")
    with made:
        yield made


@pytest.fixture(scope="module")
def edge(bundles):
    with edgeml.load(bundles["sentiment"]) as made:
        yield made


@pytest.fixture
def client(server):
    with official.InferenceServerClient(server.grpc.removeprefix("grpc://")) as running:
        yield running


def strings(*values: bytes) -> official.InferInput:
    return tensor("text", np.array([[value] for value in values], dtype=np.object_), "BYTES")


def check_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.label, one.labels, one.truncated) == (
            other.label,
            other.labels,
            other.truncated,
        )
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_every_model_and_part_is_served_and_named(server):
    rows = {row.name: row for row in server.models()}
    found = {name: (rows[name].state, rows[name].device, rows[name].artefact) for name in NAMES}
    assert found == {
        "sentiment": ("ready", "cpu", "fp32.onnx"),
        "sentiment_tokenizer": ("ready", "cpu", "model.py"),
        "sentiment_labels": ("ready", "cpu", "model.py"),
        "sentiment_text": ("ready", "", "sentiment_tokenizer + sentiment + sentiment_labels"),
    }
    assert rows["mixed"].artefact == "fp32.onnx"
    assert rows["gpu"].state == rows["gpu_text"].state == "skipped"
    assert "'gpu', which cannot be loaded: its configuration needs a GPU" in rows["gpu_text"].reason
    assert rows["gpu_tokenizer"].state == "ready"


def test_batches_are_answered_as_at_the_edge(predictor, edge):
    check_same(predictor.predict_batch(TEXTS), edge.predict_batch(TEXTS))


def test_single_texts_are_answered_as_at_the_edge(predictor, edge):
    check_same([predictor.predict(text) for text in TEXTS], [edge.predict(t) for t in TEXTS])
    assert predictor.predict("good").served_by == "triton/cpu/fp32/1"


def test_concurrent_callers_get_their_own_answers(predictor, edge):
    with ThreadPoolExecutor(max_workers=16) as pool:
        check_same(list(pool.map(predictor.predict, TEXTS)), edge.predict_batch(TEXTS))


def test_a_stranger_gets_label_probabilities_and_mark(client, edge):
    texts = TEXTS[:20]
    answer = client.infer("sentiment_text", [strings(*(text.encode() for text in texts))])
    expected = edge.predict_batch(texts)
    labels = [row[0].decode() for row in answer.as_numpy("label")]
    assert labels == [row.label for row in expected]
    scores = [list(row.scores.values()) for row in expected]
    np.testing.assert_allclose(answer.as_numpy("probabilities"), scores, atol=1e-5)
    assert answer.as_numpy("truncated").tolist() == [[row.truncated] for row in expected]


@pytest.mark.parametrize(
    "names", [["label"], ["probabilities"], ["truncated"], ["label", "truncated"]]
)
def test_a_stranger_may_ask_for_some_outputs(client, names):
    wanted = [official.InferRequestedOutput(name) for name in names]
    answer = client.infer("sentiment_text", [strings(b"a good film")], outputs=wanted)
    assert {row.name for row in answer.get_response().outputs} == set(names)


def test_plain_json_over_http_is_enough(server, edge):
    row = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": ["Größe 中文", ""]}
    request = urllib.request.Request(
        f"{server.http}/v2/models/sentiment_text/infer", data=json.dumps({"inputs": [row]}).encode()
    )
    with urllib.request.urlopen(request) as answer:
        outputs = {row["name"]: row["data"] for row in json.load(answer)["outputs"]}
    assert outputs["label"] == [edge.predict(text).label for text in row["data"]]


def test_the_tokenizer_gives_the_ids_of_the_edge(client, bundles):
    from edgeml.workflows.loading import task_of

    task = task_of(bundles["mood"])
    for text in TEXTS:
        answer = client.infer("mood_tokenizer", [strings(text.encode())])
        length = answer.as_numpy("input_ids").shape[1]
        assert length in (16, 32, MAX_LENGTH)
        for name, array in task.pad([task.prepare(text)], length=length).items():
            np.testing.assert_array_equal(answer.as_numpy(name), array)


def test_requests_of_one_bucket_are_joined(client):
    texts = ["good " * (index % 12 + 1) for index in range(96)]
    joined = False
    for _ in range(10):  # so small a model may answer each before the next one comes
        before = executions(client, "sentiment")
        answers = burst(client, "sentiment_text", [[strings(text.encode())] for text in texts])
        after = executions(client, "sentiment")
        assert [error for _, error in answers if error] == []
        assert after[0] - before[0] == 96
        joined = joined or after[1] - before[1] < 96
    assert joined


@pytest.mark.parametrize("model", ["mood", "mood_text"])
def test_several_labels_hold_as_at_the_edge(server, bundles, model):
    with (
        edgeml.connect(server.grpc, model=model, bundle=bundles["mood"]) as predictor,
        edgeml.load(bundles["mood"]) as at_edge,
    ):
        expected = at_edge.predict_batch(TEXTS)
        assert len({row.labels for row in expected}) > 3
        check_same(predictor.predict_batch(TEXTS), expected)


@pytest.mark.parametrize("model", ["mixed", "mixed_text"])
def test_a_server_answers_with_the_variant_that_batches_get(server, bundles, model):
    with (
        edgeml.connect(server.grpc, model=model, bundle=bundles["mixed"]) as predictor,
        edgeml.load(bundles["mixed"], variant="fp32") as at_edge,
    ):
        assert predictor.served_by == "triton/cpu/fp32/1"
        check_same([predictor.predict("good")], [at_edge.predict("good")])


def test_a_bad_item_leaves_its_neighbours_their_answers(predictor, edge):
    items = ["good", b"bytes", "bad film", "\ud800", None, "fine"]
    answers = predictor.predict_batch(items, on_error="return")
    assert [isinstance(row, InputError) for row in answers] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    check_same(
        [answers[0], answers[2], answers[5]], edge.predict_batch(["good", "bad film", "fine"])
    )
    with pytest.raises(InputError, match="not a text"):
        predictor.predict_batch(items)


@pytest.mark.parametrize("model", ["sentiment", "sentiment_text"])
def test_golden_values_pass_through_the_server(server, bundles, model):
    engine = TritonEngine(server.grpc, model=model)
    check = check_golden(engine, bundles["sentiment"])
    assert check.ok, check.detail
    assert engine.takes_text == model.endswith("_text")
    engine.close()


def test_ids_need_the_bundle_that_was_published(server, bundles, tmp_path):
    with pytest.raises(InputError, match=r"give bundle=.*or use model='sentiment_text'"):
        edgeml.connect(server.grpc, model="sentiment")
    preprocessing = {**bundles["sentiment"].manifest.preprocessing, "tokenizer_sha256": "f" * 64}
    manifest = replace(bundles["sentiment"].manifest, preprocessing=preprocessing)
    other = replace(bundles["sentiment"], manifest=manifest)
    for model in ("sentiment", "sentiment_text"):
        with pytest.raises(InputError, match="has the sha256 'ffffffffffff'; the server's model"):
            edgeml.connect(server.grpc, model=model, bundle=other)
    retrained = make_text_bundle(tmp_path / "retrained.bundle", seed=9)
    for model in ("sentiment", "sentiment_text"):
        with pytest.raises(IntegrityError, match="another 'fp32' than this bundle holds"):
            edgeml.connect(server.grpc, model=model, bundle=retrained)


@pytest.mark.parametrize("part", ["tokenizer", "labels"])
def test_a_part_is_no_model_to_connect_to(server, part):
    with pytest.raises(ServerError, match=f"it is the {part} of 'sentiment'"):
        edgeml.connect(server.grpc, model=f"sentiment_{part}")
    with pytest.raises(ModelNotReadyError, match="does not serve the model 'gpu_text'"):
        edgeml.connect(server.grpc, model="gpu_text")


def test_strings_need_no_tokenizer_here(server, monkeypatch, bundles):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with edgeml.connect(server.grpc, model="sentiment_text", bundle=bundles["sentiment"]) as made:
        assert made.predict("a good film").label in LABELS
    with pytest.raises(ImportError, match=r"edgeml\[text\]"):
        edgeml.connect(server.grpc, model="sentiment", bundle=bundles["sentiment"])


def ids(rows: int, length: int = 8, *, first: int = 5, dtype=np.int64, wire: str = "INT64") -> list:
    values = np.full((rows, length), first, dtype=dtype)
    mask = np.ones((rows, length), dtype=dtype)
    return [tensor("input_ids", values, wire), tensor("attention_mask", mask, wire)]


def malformed() -> official.InferInput:
    made = strings(b"good")
    made._raw_content = b"\xff\xff\xff\x7fgood"  # a length that is not there
    return made


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("sentiment", lambda: ids(1, dtype=np.int32, wire="INT32"), "INT64"),
        ("sentiment", lambda: ids(33), "batch"),
        ("sentiment", lambda: ids(1, first=100_000), "out of data bounds"),
        ("sentiment", lambda: ids(1, first=-100_000), "out of data bounds"),
        ("sentiment", lambda: ids(1)[:1], "attention_mask|inputs"),
        ("sentiment_text", lambda: [strings(b"\xff\xfe")], "text 0 of the request is not valid"),
        ("sentiment_text", lambda: [strings(b"good", b"b\xc3")], "text 1 .* at byte 1"),
        ("sentiment_text", lambda: [strings(*[b"good"] * 33)], "batch"),
        ("sentiment_text", lambda: [malformed()], "unexpected|string"),
        (
            "sentiment_text",
            lambda: [tensor("text", np.zeros((1, 1), dtype=np.int64), "INT64")],
            "STRING|BYTES",
        ),
        ("sentiment_text", lambda: ids(1), "input"),
    ],
    ids=[
        *("dtype", "ids batch", "vocabulary", "negative id", "missing"),
        *("utf8", "half utf8", "text batch", "malformed", "numbers", "ids"),
    ],
)
def test_a_bad_request_gets_one_error_and_the_server_lives_on(
    client, server, bundles, model, inputs, message
):
    with pytest.raises(InferenceServerException, match=message):
        client.infer(model, inputs())
    for name in ("sentiment", "sentiment_text"):
        engine = TritonEngine(server.grpc, model=name)
        assert check_golden(engine, bundles["sentiment"]).ok
        engine.close()
    assert {row.state for row in server.models() if row.name in NAMES} == {"ready"}


def test_bad_texts_harm_no_neighbour(client, edge):
    expected = [edge.predict("a good film").label.encode()]
    wanted = [b"a good film", b"a good film", b"\xff", b"a good film"] * 16
    answers = burst(client, "sentiment_text", [[strings(value)] for value in wanted])
    for value, (result, error) in zip(wanted, answers, strict=True):
        if value == b"\xff":
            assert "not valid UTF-8" in str(error)
        else:
            assert error is None
            assert result.as_numpy("label").tolist() == [expected]


def test_an_ensemble_alone_brings_its_models(triton, bundles, tmp_path):
    for bundle in bundles.values():
        publish_bundle(bundle, tmp_path)
    with start_triton(tmp_path, installation=triton, models=["mood_text"]) as running:
        ready = {row.name for row in running.models() if row.state == "ready"}
        assert ready == {"mood", "mood_tokenizer", "mood_labels", "mood_text"}


def test_the_next_version_is_served_whole(triton, bundles, tmp_path):
    publish_bundle(bundles["sentiment"], tmp_path)
    publish_bundle(bundles["sentiment"], tmp_path)
    with (
        start_triton(tmp_path, installation=triton) as running,
        edgeml.connect(
            running.grpc, model="sentiment_text", bundle=bundles["sentiment"]
        ) as predictor,
    ):
        assert predictor.served_by == "triton/cpu/fp32/2"
