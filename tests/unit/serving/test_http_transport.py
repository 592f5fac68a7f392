"""The engine over HTTP: the same as over gRPC, and what only HTTP can do wrong."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edgeml
from edgeml.core.predictor import Engine
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    RequestRefusedError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureError,
)
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.transport import address_of
from edgeml.serving.repository.config import CPU_CONFIG
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from tests.unit.serving.fake_http import FakeHttp, serving_http


def config_of(contract, options=None):
    named = {"name": "clothing", "policy": "allowed", "version": 1}
    return build_configs(contract, **named, options=options or ServingOptions())[CPU_CONFIG]


def images(batch: int) -> dict[str, np.ndarray]:
    return {"image": np.zeros((batch, 64, 64, 3), dtype=np.uint8)}


@pytest.fixture
def fake(contract):
    return FakeHttp(config=config_of(contract))


@pytest.fixture
def url(fake):
    with serving_http(fake) as address:
        yield address


@pytest.fixture
def engine(url):
    engine = TritonEngine(url, model="clothing", timeout_s=5.0)
    yield engine
    engine.close()


def test_it_reads_the_contract_and_answers(engine, contract, fake):
    assert isinstance(engine, Engine)
    assert engine.served_by == "triton/cpu/int8/1"
    assert engine.contract == contract
    outputs = engine.run(images(3))
    np.testing.assert_array_equal(outputs["probabilities"], np.float32([[0.25, 0.75]] * 3))
    outputs["probabilities"][0] = 0  # the caller's own copy
    (request,) = fake.requests
    assert request["inputs"][0]["shape"] == [3, 64, 64, 3]
    assert request["outputs"] == [{"name": "probabilities", "parameters": {"binary_data": True}}]
    assert "data" not in request["inputs"][0]


def test_a_batch_above_the_limit_goes_in_parts(engine, fake):
    assert engine.run(images(70))["probabilities"].shape == (70, 2)
    assert [row["inputs"][0]["shape"][0] for row in fake.requests] == [32, 32, 6]


def test_one_connection_serves_one_caller_and_threads_share_an_engine(engine, fake):
    for _ in range(5):
        engine.run(images(1))
    assert fake.connections == 1
    with ThreadPoolExecutor(max_workers=8) as pool:
        shapes = pool.map(lambda n: engine.run(images(n))["probabilities"].shape, range(1, 25))
        assert list(shapes) == [(n, 2) for n in range(1, 25)]
    assert fake.connections <= 8


def test_a_bad_feed_is_refused_before_it_is_sent(engine, fake):
    with pytest.raises(SignatureError):
        engine.run({"image": np.zeros((1, 64, 64, 3), dtype=np.float32)})
    assert fake.requests == []


@pytest.mark.parametrize(
    ("status", "details", "kind", "says"),
    [
        (503, "Exceeds maximum queue size", ServerOverloadedError, "too much to do"),
        (503, "Request timeout expired", ServerOverloadedError, "too much to do"),
        (400, "bad\nshape", RequestRefusedError, "answered 400: bad shape"),
        (404, "Request for unknown model", ModelNotReadyError, "does not serve"),
        (500, "Stub process 'c' is not healthy.", ModelNotReadyError, "does not serve"),
        (504, "", ServerTimeoutError, "no answer within"),
    ],
)
def test_a_refusal_is_an_error_of_one_line(engine, fake, status, details, kind, says):
    fake.refusal = status, details
    with pytest.raises(ServerError, match=says) as caught:
        engine.run(images(1))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    fake.refusal = None
    engine.run(images(1))


def test_a_connection_that_the_server_closed_is_opened_once_more(engine, fake):
    engine.run(images(1))
    fake.hang_up = 1
    engine.run(images(1))
    assert len(fake.requests) == 2


def test_a_server_that_keeps_hanging_up_is_unreachable(engine, fake):
    fake.hang_up = 9
    with pytest.raises(ServerUnreachableError, match="no server answers"):
        engine.run(images(1))
    assert fake.hang_up == 7  # the kept connection, and one new one


def test_a_late_answer_ends_at_the_deadline(url, fake):
    engine = TritonEngine(url, model="clothing", timeout_s=0.3)
    fake.wait = threading.Event()
    started = time.monotonic()
    with pytest.raises(ServerTimeoutError, match=r"no answer within 0\.\d+ s"):
        engine.run(images(1))
    assert 0.2 < time.monotonic() - started < 3
    engine.close()


def test_a_callers_deadline_is_shorter(engine, fake):
    fake.wait = threading.Event()
    started = time.monotonic()
    with edgeml.deadline(0.2), pytest.raises(ServerTimeoutError):
        engine.run(images(1))
    assert time.monotonic() - started < 3
    with edgeml.deadline(1e-9), pytest.raises(ServerTimeoutError):
        engine.run(images(1))


def test_the_queue_is_told_the_time_where_it_listens(contract, engine, fake):
    engine.run(images(1))
    assert "parameters" not in fake.requests[0]
    options = ServingOptions(queue_timeout_us=1_000_000)
    listening = FakeHttp(config=config_of(contract, options))
    with serving_http(listening) as url:
        other = TritonEngine(url, model="clothing", timeout_s=5.0)
        with edgeml.deadline(0.5):
            other.run(images(1))
        other.close()
    assert 0 < listening.requests[0]["parameters"]["timeout"] <= 500_000


def test_the_queue_is_told_the_priority_where_it_has_some(contract):
    listening = FakeHttp(config=config_of(contract, ServingOptions(priorities=True)))
    with serving_http(listening) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5.0)
        engine.run(images(1))
        with edgeml.priority("high"):
            engine.run(images(1))
        engine.close()
    assert [row["parameters"] for row in listening.requests] == [{"priority": 2}, {"priority": 1}]


def test_a_server_that_is_not_there():
    with pytest.raises(ServerUnreachableError, match="no server answers"):
        TritonEngine("http://127.0.0.1:9", model="clothing")


def test_a_model_that_is_not_loaded(url, fake):
    fake.ready = False
    with pytest.raises(ModelNotReadyError, match="does not serve the model 'clothing'"):
        TritonEngine(url, model="clothing")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("header", "a header that is not the protocol's"),
        ("name", "no output 'probabilities'"),
        ("bytes", "12 bytes for 'probabilities'"),
    ],
)
def test_a_strange_answer_is_an_error(engine, fake, spoil, says):
    fake.spoil = spoil
    with pytest.raises(ServerError, match=says):
        engine.run(images(2))


def test_another_contract_after_a_loss_is_refused(engine, fake, contract):
    engine.run(images(1))
    fake.config = config_of({**contract, "labels": [*contract["labels"][:-1], "other"]})
    fake.hang_up = 1
    with pytest.raises(ServerError, match=r"another contract \(labels\)"):
        engine.run(images(1))


def test_a_closed_engine_stays_closed(engine):
    engine.close()
    with pytest.raises(ClosedError):
        engine.run(images(1))
    engine.close()


def test_a_token_goes_with_each_request(url, fake):
    engine = TritonEngine(url, model="clothing", token="s3cret")
    engine.run(images(1))
    engine.close()
    assert fake.headers[0]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("url", "named", "says"),
    [
        ("http://far.example:80", {"token": "x"}, "sent in the clear"),
        ("grpc://10.0.0.1:8001", {"token": "x"}, "sent in the clear"),
        ("http://127.0.0.1:1", {"token": "a\nb"}, "control or non-ASCII"),
        ("http://127.0.0.1:1", {"root_certificates": "none.pem"}, "grpcs or https"),
        ("https://127.0.0.1:1", {"root_certificates": "none.pem"}, "is no file"),
        ("http://127.0.0.1:1/v2", {}, "nothing after the port"),
        ("http://127.0.0.1:99999", {}, "the URL is"),
    ],
)
def test_an_address_that_does_not_do_is_refused(url, named, says):
    with pytest.raises(InputError, match=says):
        address_of(url, **named)


def test_addresses():
    assert address_of("grpc://[::1]:8001").target == "[::1]:8001"
    assert address_of("grpcs://h:8001").secure
    assert not address_of("http://h:8001").local
    assert address_of("https://h:1", token="x").token == "x"
