"""The real Triton through every client: gRPC, HTTP, shared memory, an event loop, and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as official

import edgeml
from edgeml.core.predictor import Predictor
from edgeml.errors import (
    ModelNotReadyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server import running as running_module
from edgeml.serving.server.http import get_json
from edgeml.serving.server.launching import command_for
from edgeml.serving.server.serve import start_triton
from edgeml.workflows.serving import connect_async
from tests.contract.predictor_contract import PredictorContract
from tests.integration.stopping import stopped
from tests.unit.serving.certificates import make_certificate
from tests.unit.serving.tiny_bundle import run_file
from tests.unit.serving.tiny_text import make_text_bundle

pytestmark = pytest.mark.triton

WAYS = {
    "grpc": ("grpc", False),
    "http": ("http", False),
    "grpc-shm": ("grpc", True),
    "http-shm": ("http", True),
}
IMAGE = {"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)}


def connected(server, way: str, **options) -> TritonEngine:
    scheme, shared_memory = WAYS[way]
    named = {"model": "tiny", "timeout_s": 10.0, **options}
    return TritonEngine(getattr(server, scheme), shared_memory=shared_memory, **named)


def segments() -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"edgeml_*_{os.getpid()}_*_inputs")]


def known_regions(server) -> list[dict]:
    return get_json(f"{server.http}/v2/systemsharedmemory/status")


class TritonContract(PredictorContract):
    # Float sums may be blocked differently in another batch.
    tolerance = 1e-6
    way = ""

    @pytest.fixture
    def predictor(self, server, tiny) -> Iterator[Predictor]:
        scheme, shared_memory = WAYS[self.way]
        with edgeml.connect(
            getattr(server, scheme), model="tiny", bundle=tiny, shared_memory=shared_memory
        ) as predictor:
            yield predictor


class TestGrpc(TritonContract):
    way = "grpc"


class TestHttp(TritonContract):
    way = "http"


class TestSharedMemoryOverGrpc(TritonContract):
    way = "grpc-shm"


class TestSharedMemoryOverHttp(TritonContract):
    way = "http-shm"


def test_every_client_gives_the_same_answers_and_names_the_same_server(server, tiny, lookup, rng):
    images = rng.integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    expected = run_file(tiny.path / "variants/int8/model.onnx", images)
    before = known_regions(server)  # another test's request may have been given up: its rests there
    served_by = set()
    for way in WAYS:
        engine = connected(server, way)
        # Float sums may be blocked differently in the parts of 32 that a server takes.
        got = engine.run({"image": images})["probabilities"]
        np.testing.assert_allclose(got, expected, atol=1e-6)
        np.testing.assert_array_equal(
            engine.run({"image": images[:3]})["probabilities"],
            run_file(tiny.path / "variants/int8/model.onnx", images[:3]),
        )
        served_by.add(engine.served_by)
        engine.close()
        other = connected(server, way, model="lookup")  # several inputs, and a scalar a sample
        assert check_golden(other, lookup).ok
        other.close()
    assert served_by == {"triton/cpu/int8/1"}
    assert segments() == []
    assert known_regions(server) == before


@pytest.mark.parametrize("way", WAYS)
def test_eight_threads_get_their_own_answers(server, tiny, rng, way):
    images = rng.integers(0, 256, (8, 50, 1, 8, 8, 3), dtype=np.uint8)
    before = known_regions(server)
    engine = connected(server, way)
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(
            pool.map(
                lambda rows: [engine.run({"image": row})["probabilities"] for row in rows], images
            )
        )
    expected = run_file(tiny.path / "variants/int8/model.onnx", images.reshape(400, 8, 8, 3))
    np.testing.assert_allclose(np.reshape(answers, (400, -1)), expected, atol=1e-6)
    assert len(known_regions(server)) <= len(before) + 8
    engine.close()
    assert known_regions(server) == before


def test_an_event_loop_has_many_calls_under_way(server, tiny, rng):
    images = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)

    async def work():
        async with await connect_async(server.grpc, model="tiny", bundle=tiny) as predictor:
            singles = await asyncio.gather(*(predictor.predict(image) for image in images))
            return singles, await predictor.predict_batch(images)

    singles, batch = asyncio.run(work())
    with edgeml.connect(server.http, model="tiny") as other:
        for one, two, three in zip(singles, batch, other.predict_batch(images), strict=True):
            assert one.served_by == two.served_by == three.served_by
            for label, score in three.scores.items():
                assert one.scores[label] == pytest.approx(score, abs=1e-6)
                assert two.scores[label] == pytest.approx(score, abs=1e-6)


def test_texts_go_every_way(triton, tmp_path):
    bundle = make_text_bundle(tmp_path / "sentiment.bundle")
    publish_bundle(bundle, tmp_path / "models")
    texts = ["good", "", "bad " * 300, "Größe 日本"]
    with start_triton(tmp_path / "models", installation=triton) as server:
        answers = []
        for scheme, shared_memory in WAYS.values():
            url = getattr(server, scheme)
            with edgeml.connect(
                url, model="sentiment_text", bundle=bundle, shared_memory=shared_memory
            ) as predictor:
                answers.append(predictor.predict_batch(texts))
    for row in answers[1:]:
        assert [one.label for one in row] == [one.label for one in answers[0]]
        assert [one.truncated for one in row] == [one.truncated for one in answers[0]]


@pytest.fixture
def alone(triton, tiny, tmp_path):
    """A server that a test may harm."""
    publish_bundle(tiny, tmp_path / "models", options=ServingOptions(queue_timeout_us=5_000_000))
    with start_triton(tmp_path / "models", installation=triton) as running:
        yield running


def test_a_model_that_is_unloaded_and_loaded_again(alone, tiny):
    engines = {way: connected(alone, way) for way in WAYS}
    get_json(f"{alone.http}/v2/repository/models/tiny/unload", method="POST")
    for way, engine in engines.items():
        with pytest.raises(ModelNotReadyError, match="does not serve the model 'tiny'"):
            engine.run(IMAGE)
        with pytest.raises(ModelNotReadyError):
            connected(alone, way)
    get_json(f"{alone.http}/v2/repository/models/tiny/load", method="POST", timeout_s=30)
    for engine in engines.values():
        assert check_golden(engine, tiny).ok
        engine.close()


def test_a_server_that_dies_and_another_one_in_its_place(triton, tiny, tmp_path):
    publish_bundle(tiny, tmp_path / "models")
    with start_triton(tmp_path / "models", installation=triton) as server:
        engines = {way: connected(server, way) for way in WAYS}
        for engine in engines.values():
            engine.run(IMAGE)
        ports = {
            f"{kind}_port": int(getattr(server, kind).rsplit(":", 1)[1])
            for kind in ("http", "grpc")
        }
        os.kill(server.pid, signal.SIGKILL)
    for engine in engines.values():
        with pytest.raises(ServerUnreachableError, match="no server answers"):
            engine.run(IMAGE)
    with start_triton(tmp_path / "models", installation=triton, **ports) as server:
        time.sleep(1.2)  # gRPC tries again within a second
        for engine in engines.values():
            assert check_golden(engine, tiny).ok
            engine.close()
        assert known_regions(server) == []
    assert segments() == []


def test_a_deadline_is_kept_whatever_the_server_does(alone, tiny):
    """The queue listens here, and is told the time too."""
    engines = {way: connected(alone, way) for way in WAYS}
    for engine in engines.values():
        engine.run(IMAGE)
        for _ in range(20):  # who of the two notices first is a matter of chance; so is an answer
            with contextlib.suppress(ServerTimeoutError), edgeml.deadline(0.0003):
                engine.run(IMAGE)
    with stopped(alone.pid):
        for engine in engines.values():
            started = time.monotonic()
            with edgeml.deadline(0.3), pytest.raises(ServerTimeoutError):
                engine.run(IMAGE)
            assert time.monotonic() - started < 1
    for engine in engines.values():
        assert check_golden(engine, tiny).ok
        engine.close()
    assert segments() == []


def test_a_batch_above_the_limit_is_refused_by_the_server_and_cut_by_the_client(server):
    images = np.zeros((33, 8, 8, 3), dtype=np.uint8)
    tensor = official.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
    refused = pytest.raises(official.InferenceServerException, match="batch-size must be <= 32")
    with official.InferenceServerClient(server.grpc.removeprefix("grpc://")) as client, refused:
        client.infer("tiny", [tensor])
    engine = connected(server, "http")
    assert engine.run({"image": images})["probabilities"].shape == (33, 4)
    engine.close()


def test_mutual_tls_and_a_token(triton, tiny, tmp_path, monkeypatch):
    files = make_certificate(tmp_path)
    stranger = make_certificate(tmp_path, "stranger")
    known = make_certificate(tmp_path, "known")
    ours = {
        "model": "tiny",
        "token": "s3cret",
        "root_certificates": files.certificate,
        "client_certificate": (known.certificate, known.key),
    }

    def with_tls(*arguments, **named):
        return [
            *command_for(*arguments, **named),
            *("--grpc-use-ssl=1", f"--grpc-server-cert={files.certificate}"),
            f"--grpc-server-key={files.key}",
            *("--grpc-use-ssl-mutual=1", f"--grpc-root-cert={known.certificate}"),
        ]

    monkeypatch.setattr(running_module, "command_for", with_tls)
    publish_bundle(tiny, tmp_path / "models")
    with start_triton(tmp_path / "models", installation=triton) as server:
        url = server.grpc.replace("grpc://", "grpcs://")
        for shared_memory in (False, True):
            with edgeml.connect(url, **ours, bundle=tiny, shared_memory=shared_memory) as predictor:
                assert predictor.predict_tensors(IMAGE)[0].served_by == "triton/cpu/int8/1"
        for roots in (None, stranger.certificate):
            with pytest.raises(ServerUnreachableError, match="root_certificates"):
                edgeml.connect(url, **{**ours, "root_certificates": roots}, timeout_s=5)
        for pair in (None, (stranger.certificate, stranger.key)):
            with pytest.raises(ServerUnreachableError):
                edgeml.connect(url, **{**ours, "client_certificate": pair}, timeout_s=5)
        with pytest.raises(ServerError):
            edgeml.connect(server.grpc, model="tiny", timeout_s=2)

        async def work():
            async with await connect_async(url, **ours) as predictor:
                return await predictor.predict_tensors(IMAGE)

        assert asyncio.run(work())[0].served_by == "triton/cpu/int8/1"
