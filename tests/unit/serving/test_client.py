"""The engine against a server that misbehaves in every way that a real one can."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

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
from edgeml.serving.client.golden import check_golden
from edgeml.serving.repository.config import CPU_CONFIG
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from tests.unit.serving.fake_server import FakeTriton, serving


def until_connected(engine: TritonEngine) -> None:
    """Wait until gRPC's own thread has seen the connection: else it cannot see it going."""
    end = time.monotonic() + 10
    while not engine._transport._connected and time.monotonic() < end:
        time.sleep(0.01)


def config_of(contract, version=1):
    named = {"name": "clothing", "policy": "allowed", "version": version}
    return build_configs(contract, **named, options=ServingOptions())[CPU_CONFIG]


def images(batch: int) -> dict[str, np.ndarray]:
    return {"image": np.zeros((batch, 64, 64, 3), dtype=np.uint8)}


@pytest.fixture
def fake(contract):
    return FakeTriton(config=config_of(contract))


@pytest.fixture
def url(fake):
    with serving(fake) as address:
        yield address


@pytest.fixture
def engine(url):
    engine = TritonEngine(url, model="clothing", timeout_s=5.0)
    yield engine
    engine.close()


def test_it_reads_the_contract_and_says_who_answers(engine, contract):
    assert isinstance(engine, Engine)
    assert engine.served_by == "triton/cpu/int8/1"
    assert engine.variant == "int8"
    assert engine.contract == contract
    assert engine.signature.to_json() == contract["signature"]


def test_it_answers(engine):
    outputs = engine.run(images(3))
    assert list(outputs) == ["probabilities"]
    np.testing.assert_array_equal(outputs["probabilities"], np.float32([[0.25, 0.75]] * 3))
    outputs["probabilities"][0] = 0  # the caller's own copy


def test_a_batch_above_the_limit_goes_in_parts(engine, fake):
    assert engine.run(images(70))["probabilities"].shape == (70, 2)
    assert fake.batches == [32, 32, 6]


def test_threads_share_an_engine(engine):
    with ThreadPoolExecutor(max_workers=8) as pool:
        shapes = pool.map(lambda n: engine.run(images(n))["probabilities"].shape, range(1, 25))
        assert list(shapes) == [(n, 2) for n in range(1, 25)]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 64, 64, 3), dtype=np.float32),
        np.zeros((1, 64, 63, 3), dtype=np.uint8),
        np.zeros((0, 64, 64, 3), dtype=np.uint8),
        [[0]],
    ],
    ids=["dtype", "shape", "empty", "list"],
)
def test_a_bad_feed_is_refused_before_it_is_sent(engine, fake, image):
    with pytest.raises(SignatureError):
        engine.run({"image": image})
    assert fake.batches == []


@pytest.mark.parametrize(
    ("code", "details", "kind", "error"),
    [
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            "bad shape",
            RequestRefusedError,
            "INVALID_ARGUMENT: bad shape",
        ),
        (grpc.StatusCode.INTERNAL, "two\nlines", ServerError, "INTERNAL: two lines"),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Exceeds maximum queue size",
            ServerOverloadedError,
            "too much to do",
        ),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Request timeout expired",
            ServerOverloadedError,
            "too much to do",
        ),
    ],
)
def test_a_refusal_is_a_server_error_of_one_line(engine, fake, code, details, kind, error):
    fake.refusal = code, details
    with pytest.raises(ServerError, match=error) as caught:
        engine.run(images(1))
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert "\n" not in str(caught.value)
    fake.refusal = None
    engine.run(images(1))


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'clothing' is not found"),
        (grpc.StatusCode.UNAVAILABLE, "model 'clothing' has no available versions"),
        (grpc.StatusCode.INTERNAL, "Stub process 'clothing_0_0' is not healthy."),
    ],
)
def test_a_model_that_is_gone_is_not_ready(engine, fake, code, details):
    fake.refusal = code, details
    with pytest.raises(ModelNotReadyError, match="does not serve the model 'clothing'"):
        engine.run(images(1))


def test_a_late_answer_ends_at_the_deadline(url, fake):
    engine = TritonEngine(url, model="clothing", timeout_s=0.3)
    fake.wait = threading.Event()
    started = time.monotonic()
    with pytest.raises(ServerTimeoutError, match=r"no answer within 0\.3 s"):
        engine.run(images(1))
    assert 0.25 < time.monotonic() - started < 3
    engine.close()


def test_a_server_that_does_not_answer_at_connection_is_late_too(url, fake):
    fake.wait = threading.Event()
    with pytest.raises(ServerTimeoutError):
        TritonEngine(url, model="clothing", timeout_s=0.3)


def test_a_server_that_is_not_there(fake):
    with serving(fake) as url:
        pass
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError, match="no server answers"):
        TritonEngine(url, model="clothing", timeout_s=5)
    assert time.monotonic() - started < 4


def test_a_server_that_goes_away_while_in_use(fake):
    with serving(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5)
        engine.run(images(1))
    with pytest.raises(ServerUnreachableError):
        engine.run(images(1))
    engine.close()


def test_a_closed_engine_stays_closed(engine):
    engine.close()
    engine.close()
    with pytest.raises(ClosedError):
        engine.run(images(1))


def test_a_call_under_way_fails_as_closed(engine, fake):
    fake.wait = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        call = pool.submit(engine.run, images(1))
        time.sleep(0.2)
        engine.close()
        with pytest.raises(ClosedError):
            call.result(timeout=5)
        fake.wait.set()


def test_a_model_that_is_not_loaded(url, fake):
    fake.ready = False
    with pytest.raises(ModelNotReadyError, match="'clothing' in version 9"):
        TritonEngine(url, model="clothing", version="9")


@pytest.mark.parametrize("cut_bytes", [1, 4, 8])
def test_an_answer_that_lacks_bytes_is_an_error(engine, fake, cut_bytes):
    fake.cut_bytes = cut_bytes
    with pytest.raises(ServerError, match="bytes for 'probabilities'"):
        engine.run(images(1))


def test_a_model_that_edgeml_did_not_publish(contract):
    text = config_of(contract).replace("edgeml_contract", "something_else")
    raises = pytest.raises(ServerError, match="carries no edgeml contract")
    with serving(FakeTriton(config=text)) as url, raises:
        TritonEngine(url, model="clothing")


def test_a_server_that_contradicts_its_contract(contract):
    text = config_of(contract).replace("TYPE_UINT8", "TYPE_FP32")
    raises = pytest.raises(ServerError, match=r"declares image float32 .* contract says")
    with serving(FakeTriton(config=text)) as url, raises:
        TritonEngine(url, model="clothing")


def test_it_follows_a_new_version_of_the_same_contract(engine, fake, contract):
    fake.versions = ["2"]
    engine.run(images(1))
    assert engine.served_by == "triton/cpu/int8/2"


CHANGES = {
    "labels": ["one", "two"],
    "task": "tensor",
    "preprocessing": {"kind": "image", "fit": "stretch"},
}


@pytest.mark.parametrize("key", CHANGES)
def test_it_refuses_a_new_version_with_another_contract(engine, fake, contract, key):
    fake.versions = ["2"]
    fake.config = config_of({**contract, key: CHANGES[key]})
    for _ in range(2):
        with pytest.raises(ServerError, match=rf"is now version 2.*\({key}\).*connect again"):
            engine.run(images(1))


@pytest.mark.parametrize("key", CHANGES)
def test_it_refuses_another_server_with_the_same_version(fake, contract, key):
    """A server that was replaced between two calls, which no call has seen going."""
    with serving(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5)
        engine.run(images(1))
        until_connected(engine)
    other = FakeTriton(config=config_of({**contract, key: CHANGES[key]}))
    with serving(other, port=port_of(url)):
        for _ in range(2):
            with pytest.raises(ServerError, match=rf"another contract \({key}\)"):
                engine.run(images(1))
        other.config = fake.config  # the right one is back
        engine.run(images(1))
    engine.close()


def test_it_reads_the_contract_again_after_a_call_found_nobody(fake, contract):
    with serving(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5)
    with pytest.raises(ServerUnreachableError):
        engine.run(images(1))
    with serving(FakeTriton(config=config_of({**contract, "labels": ["b", "a"]})), port_of(url)):
        time.sleep(1.5)  # the channel tries again within a second
        with pytest.raises(ServerError, match=r"another contract \(labels\)"):
            engine.run(images(1))
    engine.close()


def test_it_follows_another_server_with_the_same_contract(fake, contract):
    with serving(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5)
        until_connected(engine)
    contract["variants"]["int8"]["sha256"] = "e" * 64  # trained again
    with serving(FakeTriton(config=config_of(contract)), port_of(url)):
        engine.run(images(1))
        assert engine.contract == contract
    engine.close()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@pytest.mark.parametrize(
    "url", ["", "localhost:8001", "grpc://", "grpc://host", "grpc://:1", "grpc://h:x", "ftp://h:1"]
)
def test_a_url_of_another_kind_is_refused(url):
    with pytest.raises(InputError, match="grpc://host:port or http://host:port"):
        TritonEngine(url, model="clothing")


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(timeout_s):
    with pytest.raises(InputError, match="positive"):
        TritonEngine("grpc://localhost:1", model="clothing", timeout_s=timeout_s)


def test_golden_values_of_another_bundle_are_not_compared(engine, tiny):
    check = check_golden(engine, tiny)
    assert not check.ok
    assert "another 'int8' than this bundle" in check.detail


def test_a_malformed_contract_is_named(contract):
    broken = config_of({**contract, "format": 99})
    assert json.dumps(99) in broken
    raises = pytest.raises(ServerError, match="format 99")
    with serving(FakeTriton(config=broken)) as url, raises:
        TritonEngine(url, model="clothing")
